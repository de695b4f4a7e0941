// Detection by the kernel (WP_ASYNC, 6.7): Region::dirty() tells which pages were written, by
// system calls too, and arms them again.
//
// A region that is tracked pays for each of its pages, used or not, so the reserve is not one
// region but several, made as the store grows: one for what the file has, whose pages are loaded
// when they are touched, then others, each as large as all before it, of fresh memory.
#include <algorithm>
#include <cerrno>

#include "store/detect/loading.hpp"
#include "store/detect/open_pages.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

constexpr std::size_t kFirstPages = (std::size_t{16} << 20) / kPageBytes;  // arbitrary

class TrackedDetector final : public Detector {
 public:
  TrackedDetector(const Territory& territory, DirtyForm form) noexcept
      : Detector(territory), form_(form) {}

  Outcome begin(std::size_t stored_pages) {
    if (const Outcome outcome = open_.begin(territory_.pages); failed(outcome)) return outcome;
    auto loader = Loader::create();
    if (!loader) return loader.error();
    loader_ = std::move(*loader);
    segments_.reserve(64);  // handlers have their addresses
    if (stored_pages > kHotPages) return add(stored_pages, FaultKind::missing);
    // Now, so that whoever cannot have it learns that here, and takes traps.
    return grow(kHotPages + 1);
  }

  Outcome grow(std::size_t used) override {
    while (end_ < used) {
      const std::size_t pages =
          std::min(std::max(kFirstPages, end_ - kHotPages), territory_.pages - end_);
      if (const Outcome outcome = add(end_ + pages, {}); failed(outcome)) return outcome;
    }
    return kDone;
  }

  Outcome collect(std::vector<PageNumber>& out) override {
    found_.clear();
    for (std::size_t i = 0; i < segments_.size(); ++i) {
      const auto some = segments_[i].find_dirty(segments_[i].range(), found_);
      if (!some) return some.error();
      is_armed_[i] = some->armed;
    }
    for (const PageRange& range : found_)
      for (std::size_t i = 0; i < range.length.count(); ++i)
        out.push_back(static_cast<PageNumber>(territory_.page_of(range.base) + i));
    return kDone;
  }
  // Where collect() has not done it. What has been put back since counts as written again.
  Outcome rearm(std::span<const PageNumber> pages, std::span<const std::uint8_t> changed) override {
    Outcome result = kDone;
    if (form_ != DirtyForm::ring) return result;
    std::size_t segment = 0;
    open_.update(pages, changed, [&](PageNumber page, bool was_open) {
      const PageRange range = territory_.range(page, 1);
      while (!segments_[segment].range().contains(range)) ++segment;  // they are in order
      if (is_armed_[segment] && !was_open) return;
      if (const auto done = segments_[segment].arm_dirty(range); !done) result = done.error();
    });
    return result;
  }
  [[nodiscard]] std::span<const PageNumber> open_pages() const noexcept override {
    return open_.pages();
  }
  [[nodiscard]] bool finds_strays() const noexcept override { return true; }
  [[nodiscard]] const char* name() const noexcept override {
    return form_ == DirtyForm::ring ? "ring" : "scan";
  }

 private:
  Outcome add(std::size_t end, FaultSet faults) {
    RegionOptions options;
    options.name = "pagetrap store";
    options.address = territory_.address(static_cast<PageNumber>(end_));
    options.faults = faults;
    options.dirty = form_;
    options.huge_pages = HugePages::never;
    options.on_fork = ForkPolicy::absent;
    if (!faults.empty()) options.delivery = Delivery::faulting_thread;
    auto region = Region::create((end - end_) * kPageBytes, options);
    if (!region) return region.error();
    // Elsewhere a page that is supplied read-only stays so: nobody would resolve its first write.
    if (region->backend() != BackendId::uffd_inline)
      return {"finding written pages", ENOTSUP, region->range(), "ring and scan need userfaultfd"};
    segments_.push_back(std::move(*region));
    is_armed_.push_back(true);
    end_ = end;
    if (faults.empty()) return kDone;
    const auto set = segments_.back().on_fault(on_fault, this);
    return set ? kDone : set.error();
  }

  static Verdict on_fault(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
    auto& detector = *static_cast<TrackedDetector*>(self);
    const PageNumber page = detector.territory_.page_of(fault.address);
    return detector.loader_->load(detector.territory_, *fault.region, page, true, Access::read,
                                  Access::read)
               ? Verdict::resolved
               : Verdict::not_mine;
  }

  DirtyForm form_;
  std::unique_ptr<Loader> loader_;
  std::vector<Region> segments_;
  std::vector<bool> is_armed_;   // by segment: what the last collect() found there
  std::size_t end_ = kHotPages;  // of the last segment
  std::vector<PageRange> found_;
  OpenPages open_;
};

}  // namespace

Result<std::unique_ptr<Detector>> make_tracked_detector(const Territory& territory, DirtyForm form,
                                                        std::size_t stored_pages) {
  auto made = std::make_unique<TrackedDetector>(territory, form);
  if (const Outcome outcome = made->begin(stored_pages); failed(outcome)) return outcome;
  return std::unique_ptr<Detector>(std::move(made));
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
