#include "pager/paged_region.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "pager/gate.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {
namespace {

Result<Done> check(const SourceTraits& traits, const RegionOptions& options) {
  if (options.fault_around == 0 || options.fault_around > kMostAtOnce)
    return Error{"pager::RegionOptions.fault_around", EINVAL, {}, "must be between 1 and 64"};
  if (traits.pure && traits.finds_changes)
    return Error{"SourceTraits", EINVAL, {}, "pure pages do not change"};
  return Done{};
}

pagetrap::RegionOptions memory_options(const SourceTraits& traits, const RegionOptions& options,
                                       unsigned handler_threads) {
  pagetrap::RegionOptions memory;
  memory.name = options.name;
  memory.address = options.address;
  // write_protected: first writes to clean pages, and the freeze of pages that cannot be moved.
  memory.faults = FaultKind::missing | FaultKind::write_protected;
  memory.kernel_accesses = options.kernel_accesses;
  memory.backend = options.backend;
  memory.handler_threads = handler_threads;
  memory.huge_pages = HugePages::never;  // 4 KiB is the unit: larger ones lose at random accesses
  memory.on_fork = traits.shared_store ? ForkPolicy::absent : options.on_fork;
  if (options.kernel_accesses || traits.may_block || !traits.signal_safe)
    memory.delivery = Delivery::handler_threads;
  return memory;
}

}  // namespace

PagedRegion::PagedRegion(Engine& the_engine, Source& the_source, const RegionOptions& the_options)
    : engine(the_engine),
      source(the_source),
      traits(the_source.traits()),
      name(the_options.name != nullptr ? the_options.name : "paged"),
      options(the_options) {}

PagedRegion::~PagedRegion() {
  if (pool == nullptr) return;
  engine.remove(this);
  engine.helper.forget(*this);
  memory.quiesce();
  if (!absent.load()) engine.forget_region(*this);
  memory = pagetrap::Region();  // waits for handlers that are under way
  if (pool != &engine.pools[0]) engine.end_pool(*pool);
}

Result<Done> PagedRegion::reserve(std::size_t size_bytes, PageRange adopted) {
  const pagetrap::RegionOptions like =
      memory_options(traits, options, engine.options.handler_threads);
  auto made = adopted.empty() ? pagetrap::Region::create(size_bytes, like)
                              : pagetrap::Region::adopt(adopted, like);
  if (!made) return made.error();
  memory = std::move(*made);
  base = memory.data();
  length = memory.range().length.count();
  by_handler_threads = memory.backend() == BackendId::uffd_thread;

  sys::Mapping::Request request;
  request.size_bytes = length * sizeof(PageSlot);
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  auto table = sys::Mapping::create(request);
  if (!table) return table.error();
  table_ = std::move(*table);
  sys::name_mapping(table_.range(), "pager page words");
  return Done{};
}

Result<std::unique_ptr<PagedRegion>> PagedRegion::create(Engine& engine, std::size_t size_bytes,
                                                         PageRange adopted, Source& source,
                                                         const RegionOptions& options) {
  auto region = std::make_unique<PagedRegion>(engine, source, options);
  if (auto right = check(region->traits, options); !right) return right.error();
  if (auto reserved = region->reserve(size_bytes, adopted); !reserved) return reserved.error();
  // Only after a first region of the ground floor: fork handlers run in the order that gate.hpp
  // needs.
  if (auto gate = prepare_gate(); !gate) return gate.error();
  if (!region->read_only()) {
    if (auto staged = engine.attach_staging(region->memory.backend(), options.kernel_accesses,
                                            region->staging);
        !staged)
      return staged.error();
  }
  Pool* pool = &engine.pools[0];
  if (options.policy != nullptr || options.limit_bytes != 0) {
    Policy* const policy =
        options.policy != nullptr ? options.policy : static_cast<Policy*>(&region->own_policy_);
    pool = engine.new_pool(policy, options.limit_bytes);
    if (pool == nullptr)
      return Error{
          "pager::Region::create", ENOSPC, {}, "63 regions with a limit or policy already"};
  }
  region->pool = pool;
  if (!region->read_only()) pool->stores.store(true);
  engine.add(region.get());
  if (!adopted.empty()) {
    if (auto taken = region->adopt_resident(); !taken) return taken.error();
  }
  if (auto trapped = region->memory.on_fault(handle, region.get()); !trapped)
    return trapped.error();
  return region;
}

// What is there already belongs to no store yet: it counts as written.
Result<Done> PagedRegion::adopt_resident() {
  const auto found = engine.present_pages(memory.range());
  if (!found) return found.error();
  for (const PageRange& run : *found) {
    for (std::byte* page = run.base; page < run.end(); page += page_size()) {
      const Inside inside;
      const PageWord fresh;
      engine.force_room(*pool);
      engine.admit(*this, index_of(page), std::span(&fresh, 1), true, true);
    }
  }
  if (auto done = engine.shrink(*pool); !done) return done.error();
  return Done{};
}

// --- pins -------------------------------------------------------------------------------------

bool PagedRegion::hold(std::uint64_t index, bool for_writing) noexcept {
  const Inside inside;
  for (;;) {
    if (!bring(index, Errand::pin)) return false;
    if (engine.change_pins(*this, index, true)) {
      while (for_writing && !read_only()) {
        const PageWord word = slot(index).load();
        if (word.stage() == Stage::resident && (word.writable() || open_for_writing(index, word)))
          break;
        sys::yield();  // flushed, or opened by another thread: a pinned page is there again soon
      }
      return true;
    }
    if (slot(index).load().pins() == PageWord::kMostPins) return false;
  }
}

// A pinned page may be in a passing stage all the same: it is being made writable, or flushed.
void PagedRegion::let_go(std::uint64_t index) noexcept {
  const Inside inside;
  while (!engine.change_pins(*this, index, false)) sys::yield();
}

// The page is in a stage of this thread's own meanwhile: nobody unmaps it.
bool PagedRegion::copy_out(std::uint64_t index, std::byte* to) noexcept {
  const Inside inside;
  PageWord word = slot(index).load();
  if (word.stage() != Stage::resident || !slot(index).change(word, word.in(Stage::rescuing)))
    return false;
  std::memcpy(to, pages(index, 1).base, page_size());
  slot(index).set(word);
  return true;
}

// --- discard ----------------------------------------------------------------------------------

Result<Done> PagedRegion::discard(std::uint64_t first, std::size_t how_many) {
  for (std::uint64_t index = first; index < first + how_many; ++index) {
    for (bool settled = false; !settled;) {
      const Inside inside;
      PageWord word = slot(index).load();
      switch (word.stage()) {
        case Stage::absent:
          settled = !word.departed() || slot(index).change(word, PageWord{});
          break;
        case Stage::poisoned:
          if (!slot(index).change(word, word.in(Stage::leaving))) break;
          // It may be closed since a handler thread declined its fault.
          if (auto reopened = memory.discard(pages(index, 1)); !reopened) {
            slot(index).set(word);
            return reopened.error();
          }
          tally.poisoned.fetch_sub(1, std::memory_order_relaxed);
          slot(index).set(PageWord{});
          settled = true;
          break;
        case Stage::resident: {
          if (word.pins() != 0)
            return Error{"pager::Region::discard", EBUSY, pages(index, 1), "the page is pinned"};
          auto dropped = engine.drop_page(*this, index);
          if (!dropped) return dropped.error();
          settled = *dropped;
          break;
        }
        default:
          sys::yield();
      }
    }
  }
  source.forget(first, how_many);
  engine.count_source_bytes(source_bytes, source.memory_bytes());
  return Done{};
}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
