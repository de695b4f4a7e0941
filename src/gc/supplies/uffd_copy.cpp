// Private memory, for programs that fork(): a child has its own copy of everything. There is no
// second mapping of a page, so the collector works in memory aside, at a fixed distance: a flip
// moves the page tables there, survivors are copied there, and UFFDIO_COPY brings pages back when
// they are scanned, with the mark that tells writes. What was copied stays aside until the cycle
// is over: a thread that comes late scans that, which changes nothing.
//
// UFFDIO_MOVE would save the copy, and cannot set the mark.
#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include <pagetrap/vm/lift.hpp>
#include <pagetrap/vm/region.hpp>

#include "gc/supplier.hpp"
#include "gc/supplies/written_pages.hpp"
#include "sys/mapping.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/process_files.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace {

class UffdCopy final : public PageSupplier {
 public:
  UffdCopy(Region region, sys::Mapping aside) noexcept
      : region_(std::move(region)), aside_(std::move(aside)) {}

  [[nodiscard]] PageSupply id() const noexcept override { return PageSupply::uffd_copy; }
  [[nodiscard]] PageRange range() const noexcept override { return region_.range(); }
  [[nodiscard]] std::ptrdiff_t view() const noexcept override {
    return aside_.data() - region_.data();
  }

  [[nodiscard]] bool view_is_memory() const noexcept override { return false; }

  Outcome close_all() noexcept override {
    auto lift = region_.lift_into(aside_.data());
    if (!lift) return lift.error();
    lift_.emplace(std::move(*lift));
    all_written_now_ = all_written_;
    all_written_ = false;
    return kDone;
  }
  Outcome open(PageRange pages, bool armed) noexcept PAGETRAP_SIGNAL_SAFE override {
    const Access access = armed ? Access::read : Access::read_write;
    while (!pages.empty()) {
      const auto done = region_.supply(pages, pages.base + view(), pagetrap::Supply::copy, access);
      if (done) return kDone;
      // RACE a trap that comes so late that the page has been opened by others, and what was aside
      // is gone: the kernel looks for the source first.
      std::byte* const at = done.error().range.base;
      if (done.error().number != EFAULT || sys::has_page(pagemap_descriptor(), at) <= 0)
        return done.error();
      const auto left = static_cast<std::size_t>(pages.end() - at);
      pages = {at + page_size(), pages_for(left - page_size())};
    }
    return kDone;
  }
  Outcome prepare(PageRange pages) noexcept PAGETRAP_SIGNAL_SAFE override {
    return lift_ ? outcome_of(lift_->fill(pages)) : kDone;
  }
  // Nobody scans it in this cycle: it need not be aside.
  Outcome place(PageRange pages, std::uint64_t first_word) noexcept override {
    alignas(8) std::array<std::byte, 65536> first{};
    std::memcpy(first.data(), &first_word, sizeof first_word);
    const PageRange rest{pages.base + page_size(), Pages{pages.length.count() - 1}};
    const Outcome placed = outcome_of(region_.supply({pages.base, Pages{1}}, first.data(),
                                                     pagetrap::Supply::copy, Access::read_write));
    if (gc::failed(placed) || rest.empty()) return placed;
    return outcome_of(region_.supply(rest, nullptr, pagetrap::Supply::zero, Access::read_write));
  }
  Result<std::size_t> written(PageRange part, std::span<PageRange> out) noexcept override {
    if (all_written_now_) return Error{"gc", ENOBUFS, part, "all of it may have been written"};
    return lift_->pages(part, LiftedPages::written, out);
  }
  // The page is there, or its contents are aside already.
  Outcome close(PageRange pages) noexcept override {
    for (std::byte* page = pages.base; page < pages.end(); page += page_size()) {
      const int there = sys::has_page(pagemap_descriptor(), page);
      if (there < 0) return Error{"pagemap", -there, pages};
      if (there > 0) std::memcpy(page + view(), page, page_size());
    }
    return outcome_of(region_.evict(pages));
  }
  Outcome find_written(PageRange part, std::span<PageRange> out,
                       std::size_t& found) noexcept override {
    found = 0;
    if (all_written_) return Error{"gc", ENOBUFS, part};
    return find_written_pages(part, out, found);
  }
  // RACE nobody looks aside any more: handlers and helpers that began before have ended.
  Outcome settle() noexcept override {
    if (!lift_) return drop_aside();
    const auto finished = lift_->finish();
    if (!finished) return finished.error();
    lift_.reset();
    return forbid_huge_pages();
  }
  Outcome drop(PageRange pages) noexcept override { return outcome_of(region_.discard(pages)); }
  Outcome on_trap(Handler handler, void* self) noexcept override {
    return outcome_of(region_.on_fault(handler, self));
  }
  void quiesce() noexcept override { region_.quiesce(); }
  [[nodiscard]] bool forks() const noexcept override { return true; }
  void forked() noexcept override { all_written_ = true; }

  // A page of 2 MiB would be cleared inside a trap.
  Outcome forbid_huge_pages() noexcept {
    const int error = sys::advise(aside_.range(), MADV_NOHUGEPAGE);
    return error == 0 || error == EINVAL ? kDone : Error{"MADV_NOHUGEPAGE", error, aside_.range()};
  }

 private:
  Outcome drop_aside() noexcept {
    const int error = sys::advise(aside_.range(), MADV_DONTNEED);
    return error == 0 ? kDone : Error{"MADV_DONTNEED", error, aside_.range()};
  }

  Region region_;
  sys::Mapping aside_;  // as large as the region
  std::optional<Lift> lift_;
  bool all_written_ = false;      // in a fork()ed child nobody knows which pages were
  bool all_written_now_ = false;  // the same, of what was lifted
};

}  // namespace

Result<std::unique_ptr<PageSupplier>> make_uffd_copy(std::byte* address, std::size_t size_bytes) {
  RegionOptions options;
  options.name = "pagetrap:gc-old";
  options.address = address;
  options.faults = FaultKind::missing;
  options.delivery = Delivery::faulting_thread;
  options.backend = BackendId::uffd_inline;
  options.dirty = DirtyForm::scan;
  options.liftable = true;
  options.huge_pages = HugePages::never;
  options.on_fork = ForkPolicy::rearm;
  auto region = Region::create(size_bytes, options);
  if (!region) return region.error();
  sys::Mapping::Request request;
  request.size_bytes = size_bytes;
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  request.alignment = std::size_t{1} << 30;
  auto aside = sys::Mapping::create(request);
  if (!aside) return aside.error();
  sys::name_mapping(aside->range(), "pagetrap:gc-aside");
  auto supplier = std::make_unique<UffdCopy>(std::move(*region), std::move(*aside));
  if (const Outcome outcome = supplier->forbid_huge_pages(); gc::failed(outcome)) return outcome;
  return std::unique_ptr<PageSupplier>(std::move(supplier));
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
