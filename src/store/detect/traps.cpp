// Detection by traps, and the twin that is told. Both have one region over all of the reserve,
// whose pages are loaded when they are touched. With traps a page comes read-only; the writer's
// first write opens it.
#include <algorithm>
#include <cerrno>

#include "store/detect/loading.hpp"
#include "store/detect/open_pages.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

class OnePiece : public Detector {
 public:
  OnePiece(const Territory& territory, FaultSet faults) noexcept
      : Detector(territory), faults_(faults) {}

  Outcome start() {
    auto loader = Loader::create();
    if (!loader) return loader.error();
    loader_ = std::move(*loader);
    auto touched = SparseArray<PageNumber>::create(territory_.pages + kSpare);
    if (!touched) return touched.error();
    touched_ = std::move(*touched);
    RegionOptions options;
    options.name = "pagetrap store";
    options.address = territory_.address(kHotPages);
    options.faults = faults_;
    options.delivery = Delivery::faulting_thread;
    options.huge_pages = HugePages::never;
    options.on_fork = ForkPolicy::absent;
    auto region = Region::create((territory_.pages - kHotPages) * kPageBytes, options);
    if (!region) return region.error();
    region_ = std::move(*region);
    const auto set = region_.on_fault(on_fault, this);
    return set ? kDone : set.error();
  }

  Outcome grow(std::size_t) override { return kDone; }
  Outcome collect(std::vector<PageNumber>& out) override {
    const std::size_t count = count_.load(std::memory_order_acquire);
    if (count > touched_.size())
      return {"finding written pages", EOVERFLOW, {}, "the same pages faulted again and again"};
    out.insert(out.end(), touched_.data(), touched_.data() + count);
    count_.store(0, std::memory_order_release);
    return kDone;
  }

 protected:
  // One page may be noted twice when the access runs again before its page is open.
  static constexpr std::size_t kSpare = 1024;
  void note(PageNumber page) noexcept PAGETRAP_SIGNAL_SAFE {
    const std::size_t at = count_.fetch_add(1, std::memory_order_acq_rel);
    if (at < touched_.size()) touched_[at] = page;
  }
  Region region_;

 private:
  static Verdict on_fault(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<OnePiece*>(self)->handle(fault);
  }
  virtual Verdict handle(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE = 0;

  FaultSet faults_;

 protected:
  std::unique_ptr<Loader> loader_;

 private:
  SparseArray<PageNumber> touched_;
  std::atomic<std::size_t> count_{0};
};

class TrapDetector final : public OnePiece {
 public:
  explicit TrapDetector(const Territory& territory) noexcept
      : OnePiece(territory, FaultKind::missing | FaultKind::write_protected) {}

  Outcome begin() {
    if (const Outcome outcome = open_.begin(territory_.pages); failed(outcome)) return outcome;
    return start();
  }
  Outcome rearm(std::span<const PageNumber> pages, std::span<const std::uint8_t> changed) override;
  [[nodiscard]] std::span<const PageNumber> open_pages() const noexcept override {
    return open_.pages();
  }
  [[nodiscard]] const char* name() const noexcept override { return "traps"; }

 private:
  Verdict handle(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE override;
  OpenPages open_;
};

Verdict TrapDetector::handle(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  const PageNumber page = territory_.page_of(fault.address);
  if (fault.write && !may_write()) {
    report_stray(fault.address);
    return Verdict::not_mine;
  }
  if (fault.kind == FaultKind::missing) {
    if (fault.write) note(page);
    return loader_->load(territory_, *fault.region, page, fault.write,
                         fault.write ? Access::read_write : Access::read, Access::read)
               ? Verdict::resolved
               : Verdict::not_mine;
  }
  // Not open, so nobody has written it: what is there is committed.
  territory_.committed->adopt(page, fault.page.base);
  note(page);
  return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
}

Outcome TrapDetector::rearm(std::span<const PageNumber> pages,
                            std::span<const std::uint8_t> changed) {
  PageNumber first = 0;
  std::size_t count = 0;
  Outcome result = kDone;
  const auto flush = [&] {
    if (count == 0) return;
    const auto done = region_.protect(territory_.range(first, count), Access::read);
    if (!done && !failed(result)) result = done.error();
    count = 0;
  };
  open_.update(pages, changed, [&](PageNumber page, bool) {
    if (count != 0 && first + count != page) flush();
    if (count == 0) first = page;
    ++count;
  });
  flush();
  return result;
}

class BarrierDetector final : public OnePiece {
 public:
  explicit BarrierDetector(const Territory& territory) noexcept
      : OnePiece(territory, FaultKind::missing) {}
  Outcome rearm(std::span<const PageNumber>, std::span<const std::uint8_t>) override {
    return kDone;
  }
  void declare(const Piece& piece) override {
    if (!territory_.committed->in_image(piece.page)) {
      region_.touch(territory_.address(piece.page));
      territory_.committed->adopt(piece.page, territory_.address(piece.page));
    }
    declared_.push_back(piece);
  }
  Outcome collect(std::vector<PageNumber>& out) override {
    std::sort(declared_.begin(), declared_.end(), [](const Piece& a, const Piece& b) {
      return a.page != b.page ? a.page < b.page : a.begin < b.begin;
    });
    // Each byte once, however often it was declared.
    collected_.clear();
    for (const Piece& piece : declared_) {
      Piece* const last = collected_.empty() ? nullptr : &collected_.back();
      if (last != nullptr && last->page == piece.page && piece.begin <= last->end) {
        last->end = std::max(last->end, piece.end);
      } else {
        collected_.push_back(piece);
        out.push_back(piece.page);
      }
    }
    declared_.clear();
    return kDone;
  }
  [[nodiscard]] std::span<const Piece> pieces() const noexcept override { return collected_; }
  [[nodiscard]] const char* name() const noexcept override { return "barrier"; }

 private:
  Verdict handle(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE override {
    return loader_->load(territory_, *fault.region, territory_.page_of(fault.address), false,
                         Access::read_write, Access::read_write)
               ? Verdict::resolved
               : Verdict::not_mine;
  }

  std::vector<Piece> declared_;
  std::vector<Piece> collected_;
};

}  // namespace

// Writes are found without.
void Detector::declare(const Piece&) {}

Result<std::unique_ptr<Detector>> make_trap_detector(const Territory& territory) {
  auto made = std::make_unique<TrapDetector>(territory);
  if (const Outcome outcome = made->begin(); failed(outcome)) return outcome;
  return std::unique_ptr<Detector>(std::move(made));
}

Result<std::unique_ptr<Detector>> make_barrier_detector(const Territory& territory) {
  auto made = std::make_unique<BarrierDetector>(territory);
  if (const Outcome outcome = made->start(); failed(outcome)) return outcome;
  return std::unique_ptr<Detector>(std::move(made));
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
