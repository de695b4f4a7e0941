// A memory object mapped twice. The program's mapping is a liftable Region with minor faults: a
// flip moves its page tables away, and UFFDIO_CONTINUE brings pages back one by one or in runs,
// with the mark that tells writes.
#include <cerrno>
#include <optional>

#include <pagetrap/vm/lift.hpp>
#include <pagetrap/vm/region.hpp>

#include "gc/supplier.hpp"
#include "gc/supplies/written_pages.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace {

class UffdMinor final : public PageSupplier {
 public:
  UffdMinor(Region region, View view) noexcept
      : region_(std::move(region)), view_(std::move(view)) {}

  [[nodiscard]] PageSupply id() const noexcept override { return PageSupply::uffd_minor; }
  [[nodiscard]] PageRange range() const noexcept override { return region_.range(); }
  [[nodiscard]] std::ptrdiff_t view() const noexcept override {
    return view_.data() - region_.data();
  }

  Outcome close_all() noexcept override {
    auto lift = region_.lift();
    if (!lift) return lift.error();
    lift_.emplace(std::move(*lift));
    return kDone;
  }
  Outcome open(PageRange pages, bool armed) noexcept PAGETRAP_SIGNAL_SAFE override {
    return outcome_of(region_.supply(pages, nullptr, pagetrap::Supply::publish,
                                     armed ? Access::read : Access::read_write));
  }
  Result<std::size_t> written(PageRange part, std::span<PageRange> out) noexcept override {
    return lift_->pages(part, LiftedPages::written, out);
  }
  Outcome close(PageRange pages) noexcept override { return outcome_of(region_.evict(pages)); }
  Outcome find_written(PageRange part, std::span<PageRange> out,
                       std::size_t& found) noexcept override {
    return find_written_pages(part, out, found);
  }
  Outcome settle() noexcept override {
    if (!lift_) return kDone;
    const auto finished = lift_->finish();
    if (!finished) return finished.error();
    lift_.reset();
    return kDone;
  }
  Outcome place(PageRange pages, std::uint64_t first_word) noexcept override {
    return place_through_view(*this, pages, first_word);
  }
  Outcome drop(PageRange pages) noexcept override { return outcome_of(region_.discard(pages)); }
  Outcome on_trap(Handler handler, void* self) noexcept override {
    return outcome_of(region_.on_fault(handler, self));
  }
  void quiesce() noexcept override { region_.quiesce(); }

 private:
  Region region_;
  View view_;
  std::optional<Lift> lift_;
};

}  // namespace

Result<std::unique_ptr<PageSupplier>> make_uffd_minor(std::byte* address, std::size_t size_bytes) {
  RegionOptions options;
  options.name = "pagetrap:gc-old";
  options.backing = Backing::memfd;
  options.address = address;
  options.faults = FaultKind::minor;
  options.delivery = Delivery::faulting_thread;
  options.backend = BackendId::uffd_inline;
  options.dirty = DirtyForm::scan;
  options.liftable = true;
  options.on_fork = ForkPolicy::absent;
  auto region = Region::create(size_bytes, options);
  if (!region) return region.error();
  auto view = region->map_twice(Access::read_write);
  if (!view) return view.error();
  return std::unique_ptr<PageSupplier>(
      std::make_unique<UffdMinor>(std::move(*region), std::move(*view)));
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
