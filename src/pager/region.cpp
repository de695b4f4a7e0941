// The public face: checks, and calls to what is behind it.
#include <pagetrap/pager/region.hpp>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "pager/engine.hpp"
#include "pager/fill.hpp"
#include "pager/gate.hpp"
#include "pager/paged_region.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {
namespace {

Result<Done> check(const PagedRegion* paged, PageRange range, const char* operation) {
  if (paged == nullptr) return Error{operation, EBADF, range, "the region is empty"};
  if (paged->absent.load())
    return Error{operation, EBADF, range, "the region is absent in this fork()ed child"};
  if (range.empty() || !paged->memory.range().contains(range) ||
      page_of(range.base).base != range.base)
    return Error{operation, EINVAL, range, "not whole pages of the region"};
  return Done{};
}

// RACE a page is shown to the program before it has a frame: a write that has ended may be in a
// page whose filling has not. Fills that began before this call have ended after it.
void settle(PagedRegion& paged) {
  paged.memory.quiesce();
  paged.engine.helper.settle(paged);
}

}  // namespace

Region::Region() noexcept = default;
Region::~Region() = default;
Region::Region(Region&& other) noexcept = default;
Region& Region::operator=(Region&& other) noexcept = default;
Region::Region(std::unique_ptr<PagedRegion> paged) noexcept : paged_(std::move(paged)) {}

Result<Region> Region::create(Pager& pager, std::size_t size_bytes, Source& source,
                              const RegionOptions& options) {
  auto made = PagedRegion::create(*pager.engine_, size_bytes, {}, source, options);
  if (!made) return made.error();
  return Region(std::move(*made));
}

Result<Region> Region::adopt(Pager& pager, PageRange range, Source& source,
                             const RegionOptions& options) {
  if (range.empty() || page_of(range.base).base != range.base)
    return Error{"pager::Region::adopt", EINVAL, range, "the range must be whole pages"};
  if (source.traits().pure)
    return Error{"pager::Region::adopt", EINVAL, range, "the pages of a pure source are its own"};
  auto made = PagedRegion::create(*pager.engine_, range.size_bytes(), range, source, options);
  if (!made) return made.error();
  return Region(std::move(*made));
}

PageRange Region::range() const noexcept {
  return paged_ != nullptr ? paged_->memory.range() : PageRange{};
}

BackendId Region::backend() const noexcept {
  return paged_ != nullptr ? paged_->memory.backend() : BackendId::null;
}

RegionStatistics Region::statistics() const noexcept {
  RegionStatistics now;
  if (paged_ == nullptr) return now;
  const Tally& tally = paged_->tally;
  now.faults = tally.faults.load();
  now.write_traps = tally.write_traps.load();
  now.filled = tally.filled.load();
  now.prefetched = tally.prefetched.load();
  now.refaults = tally.refaults.load();
  now.evicted = tally.evicted.load();
  now.dropped = tally.dropped.load();
  now.unchanged = tally.unchanged.load();
  now.rescued = tally.rescued.load();
  now.failed_fills = tally.failed_fills.load();
  now.failed_writes = tally.failed_writes.load();
  now.resident_pages = tally.resident.load();
  now.poisoned_pages = tally.poisoned.load();
  now.source_bytes = paged_->source_bytes.load();
  return now;
}

Result<Done> Region::set_limit(std::size_t limit_bytes) {
  if (paged_ == nullptr) return Error{"set_limit", EBADF, {}, "the region is empty"};
  if (paged_->pool == &paged_->engine.pools[0])
    return Error{"set_limit", ENOTSUP, {}, "create the region with a limit or a policy of its own"};
  paged_->pool->limit.store(
      limit_bytes == 0 ? ~std::size_t{0} : std::max<std::size_t>(1, limit_bytes >> page_shift()));
  return paged_->engine.shrink(*paged_->pool);
}

Result<Done> Region::will_need(PageRange range, bool in_background) {
  if (auto right = check(paged_.get(), range, "will_need"); !right) return right;
  const std::uint64_t first = paged_->index_of(range.base);
  const std::size_t count = range.length.count();
  if (in_background && paged_->engine.helper.ask(*paged_, first, count)) return Done{};
  paged_->source.prefetch(first, count);
  static_cast<void>(fill_ahead(*paged_, first, count, false));
  return Done{};
}

Result<Done> Region::dont_need(PageRange range) {
  if (auto right = check(paged_.get(), range, "dont_need"); !right) return right;
  const std::uint64_t first = paged_->index_of(range.base);
  for (std::size_t i = 0; i < range.length.count(); ++i) {
    if (paged_->slot(first + i).load().stage() != Stage::resident) continue;
    const Inside inside;
    // A page that has gone meanwhile has done what was asked.
    static_cast<void>(paged_->engine.tell_policy(*paged_, first + i, FrameEvent::dont_need));
  }
  return Done{};
}

void Region::sequential(bool on) noexcept {
  if (paged_ != nullptr) paged_->is_sequential.store(on);
}

Result<Pin> Region::pin(PageRange range, Access access) {
  if (auto right = check(paged_.get(), range, "pin"); !right) return right.error();
  const std::size_t count = range.length.count();
  const std::uint64_t first = paged_->index_of(range.base);
  if (!paged_->engine.add_pins(*paged_->pool, count))
    return Error{"pager::Region::pin", ENOMEM, range, "the budget is too small to pin so much"};
  const Inside inside;
  for (std::size_t i = 0; i < count; ++i) {
    if (paged_->hold(first + i, access == Access::read_write)) continue;
    const bool poisoned = paged_->slot(first + i).load().stage() == Stage::poisoned;
    for (std::size_t held = 0; held < i; ++held) paged_->let_go(first + held);
    paged_->engine.remove_pins(count);
    return Error{"pager::Region::pin", poisoned ? EIO : EAGAIN, paged_->pages(first + i, 1),
                 poisoned ? "the source cannot fill the page" : "pinned 65535 times already"};
  }
  return Pin(paged_.get(), range);
}

Result<Done> Region::flush() {
  if (auto right = check(paged_.get(), range(), "flush"); !right) return right;
  if (paged_->read_only()) return Done{};
  paged_->last_error.store(0);
  settle(*paged_);
  const auto pages = paged_->engine.pages_of(*paged_);
  const EvictionCount count = paged_->engine.evict_pages(*paged_, pages, true);
  if (count.refused == 0) return Done{};
  return Error{"pager::Region::flush", paged_->last_error.load(), range(), "see the source"};
}

Result<Done> Region::evict_all() {
  if (auto right = check(paged_.get(), range(), "evict_all"); !right) return right;
  paged_->last_error.store(0);
  // What is being read ahead would come after this, and stay.
  paged_->memory.quiesce();
  paged_->engine.helper.forget(*paged_);
  // RACE the helper copies a page for its source, or an evictor has it in hand: such a page is
  // passed over, and is there again a moment later.
  constexpr int kMostRounds = 16;  // other threads may bring pages for ever
  for (int round = 0; round < kMostRounds; ++round) {
    auto pages = paged_->engine.pages_of(*paged_);
    std::erase_if(pages,
                  [this](std::uint64_t page) { return paged_->slot(page).load().pins() != 0; });
    if (pages.empty()) break;
    const EvictionCount count = paged_->engine.evict_pages(*paged_, pages);
    if (count.refused != 0)
      return Error{"pager::Region::evict_all", paged_->last_error.load(), range(),
                   "see the source"};
    if (count.gone < pages.size()) sys::yield();
  }
  return Done{};
}

Result<Done> Region::discard(PageRange range) {
  if (auto right = check(paged_.get(), range, "discard"); !right) return right;
  if (paged_->read_only())
    return Error{"pager::Region::discard", ENOTSUP, range, "pages of a pure source never change"};
  return paged_->discard(paged_->index_of(range.base), range.length.count());
}

void Region::quiesce() noexcept {
  if (paged_ != nullptr) paged_->memory.quiesce();
}

// --- Pin --------------------------------------------------------------------------------------

Pin::Pin(Pin&& other) noexcept
    : paged_(std::exchange(other.paged_, nullptr)), range_(std::exchange(other.range_, {})) {}

Pin& Pin::operator=(Pin&& other) noexcept {
  if (this != &other) {
    reset();
    paged_ = std::exchange(other.paged_, nullptr);
    range_ = std::exchange(other.range_, {});
  }
  return *this;
}

void Pin::reset() noexcept {
  if (paged_ == nullptr) return;
  const std::uint64_t first = paged_->index_of(range_.base);
  const std::size_t count = range_.length.count();
  if (!paged_->absent.load()) {
    const Inside inside;
    for (std::size_t i = 0; i < count; ++i) paged_->let_go(first + i);
  }
  paged_->engine.remove_pins(count);
  paged_ = nullptr;
  range_ = {};
}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
