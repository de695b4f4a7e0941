#include "guard/arena/arena_state.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

// The sizes of the tables for so many bytes of arena, in order, each of whole pages.
struct Tables {
  std::size_t life;
  std::size_t spans;
  std::size_t pages;
  std::size_t chunks;

  explicit Tables(std::size_t reserved) noexcept
      : life(bytes(pages_for(reserved / kGranule / 8))),
        spans(bytes(pages_for(reserved / kSpan * sizeof(Span)))),
        pages(bytes(pages_for((reserved >> page_shift()) * sizeof(std::uint32_t)))),
        chunks(bytes(pages_for(reserved / kChunk * sizeof(std::uint32_t)))) {}
  [[nodiscard]] std::size_t all() const noexcept { return life + spans + pages + chunks; }
};

bool is_same(const ObjectType& a, const ObjectType& b) noexcept PAGETRAP_SIGNAL_SAFE {
  // Each shared library may have a description of its own.
  return &a == &b || (a.size_bytes == b.size_bytes && a.name == b.name);
}

}  // namespace

ArenaState::ArenaState(Region reserved, sys::Mapping beside, const ArenaOptions& asked) noexcept
    : region(std::move(reserved)),
      options(asked),
      next_flush(asked.retire_batch),
      tables_(std::move(beside)) {
  const Tables sizes(region.size_bytes());
  std::byte* next = tables_.data();
  life_ = reinterpret_cast<std::atomic<std::uint64_t>*>(next);
  spans_ = reinterpret_cast<Span*>(next += sizes.life);
  dead_bytes_ = reinterpret_cast<std::atomic<std::uint32_t>*>(next += sizes.spans);
  dead_pages_ = reinterpret_cast<std::atomic<std::uint32_t>*>(next += sizes.pages);
}

ArenaState::~ArenaState() {
  for (auto& entry : types_) delete entry.load(std::memory_order_relaxed);
}

Result<std::unique_ptr<ArenaState>> ArenaState::make(const ArenaOptions& options) {
  if (options.reserve_bytes == 0 || options.reserve_bytes > ~std::size_t{0} / 2)
    return Error{"ArenaOptions.reserve_bytes", EINVAL};
  if (options.retire_batch == 0) return Error{"ArenaOptions.retire_batch", EINVAL};
  const std::size_t whole = (options.reserve_bytes + kChunk - 1) / kChunk * kChunk;
  RegionOptions memory;
  memory.name = "pagetrap arena";
  memory.faults = FaultKind::no_access;
  memory.delivery = Delivery::faulting_thread;
  // By name: guards are alike in all of them but null, and a chunk's end takes the mapping away
  // that a userfaultfd would be registered for.
  memory.backend = BackendId::mprotect;
  memory.alignment = kChunk;
  // A huge page would live as long as one object in 2 MiB.
  memory.huge_pages = HugePages::never;
  auto region = Region::create(whole, memory);
  if (!region) return region.error();
  auto tables = sys::Mapping::create({.size_bytes = Tables(whole).all(),
                                      .prot = PROT_READ | PROT_WRITE,
                                      .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE});
  if (!tables) return tables.error();
  auto state = std::make_unique<ArenaState>(std::move(*region), std::move(*tables), options);
  if (auto set = state->region.on_fault(on_fault, state.get()); !set) return set.error();
  return state;
}

TypeSpans& ArenaState::spans_of(const ObjectType& type) {
  const auto bits = reinterpret_cast<std::uintptr_t>(&type);
  std::size_t at = (bits >> 4) * 0x9e3779b97f4a7c15U >> 54;  // ten bits: kMostTypes
  for (std::size_t tries = 0; tries < types_.size(); ++tries, at = (at + 1) % types_.size()) {
    TypeSpans* known = types_[at].load(std::memory_order_acquire);
    if (known == nullptr) {
      const std::lock_guard guard(opening_);
      known = types_[at].load(std::memory_order_relaxed);
      if (known == nullptr) {
        known = new TypeSpans;
        known->type = &type;
        known->next.store(type.count, std::memory_order_relaxed);  // full: none is open
        types_[at].store(known, std::memory_order_release);
      }
    }
    if (known->type == &type) return *known;
  }
  throw std::bad_alloc();
}

// With opening_ held.
void ArenaState::open_span(TypeSpans& of) {
  const std::size_t first = spans_used.load(std::memory_order_relaxed);
  if (of.type->spans > region.size_bytes() / kSpan - first) throw std::bad_alloc();
  spans_used.store(first + of.type->spans, std::memory_order_relaxed);
  for (std::size_t i = 0; i < of.type->spans; ++i) {
    spans_[first + i].lead.store(static_cast<std::uint32_t>(i), std::memory_order_relaxed);
    spans_[first + i].type.store(of.type, std::memory_order_release);
  }
  std::byte* const base = region.data() + first * kSpan;
  const std::size_t objects = std::size_t{of.type->count} * of.type->stride;
  account_dead(base + objects, of.type->spans * kSpan - objects);
  of.next.store(std::uint64_t{first} << 32, std::memory_order_release);
}

void* ArenaState::allocate(const ObjectType& type) {
  TypeSpans& of = spans_of(type);
  for (;;) {
    const std::uint64_t got = of.next.fetch_add(1, std::memory_order_acquire);
    const auto slot = static_cast<std::uint32_t>(got);
    if (slot < type.count) [[likely]] {
      const std::size_t offset = (got >> 32) * kSpan + std::size_t{slot} * type.stride;
      life_word(offset).fetch_or(life_bit(offset), std::memory_order_relaxed);
      return region.data() + offset;
    }
    // RACE many find the span full, and each opens one: who comes second finds it open.
    const std::lock_guard guard(opening_);
    if (static_cast<std::uint32_t>(of.next.load(std::memory_order_relaxed)) >= type.count)
      open_span(of);
  }
}

Found ArenaState::find(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE {
  if (!region.range().contains(address)) return {};
  const std::size_t offset = offset_of(address);
  const std::size_t span = offset / kSpan;
  const ObjectType* const type = spans_[span].type.load(std::memory_order_acquire);
  if (type == nullptr) return {};
  const std::size_t begin = (span - spans_[span].lead.load(std::memory_order_relaxed)) * kSpan;
  // 32 bits: divided several times faster. A group of spans has one object, of any length.
  const std::size_t inside = offset - begin;
  const std::uint32_t slot =
      type->spans == 1 ? static_cast<std::uint32_t>(inside) / type->stride : inside >= type->stride;
  if (slot >= type->count) return {type, nullptr};
  return {type, region.data() + begin + std::size_t{slot} * type->stride};
}

bool ArenaState::alive(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE {
  if (!region.range().contains(address)) return false;
  const std::size_t offset = offset_of(address);
  return offset % kGranule == 0 &&
         (life_word(offset).load(std::memory_order_acquire) & life_bit(offset)) != 0;
}

// The bit first: of two threads that destroy one object, one is told so.
bool ArenaState::end_life(void* object, const ObjectType& type) noexcept {
  const Found found = find(object);
  Misuse what = Misuse::not_an_object;
  if (found.object != nullptr && found.object == object) {
    const std::size_t offset = offset_of(object);
    if (!is_same(*found.type, type)) {
      what = Misuse::of_another_type;
    } else if ((life_word(offset).fetch_and(~life_bit(offset), std::memory_order_acq_rel) &
                life_bit(offset)) != 0) {
      return true;
    } else {
      what = Misuse::destroyed_twice;
    }
  }
  report(what, object);
  return false;
}

void ArenaState::account_dead(std::byte* begin, std::size_t length) noexcept {
  PageRange dead{};  // a run of pages that are
  for (std::byte* at = begin; at < begin + length;) {
    const PageRange page = page_of(at);
    std::byte* const end = std::min(page.end(), begin + length);
    const auto here = static_cast<std::uint32_t>(end - at);
    std::atomic<std::uint32_t>& known = dead_bytes_[offset_of(at) >> page_shift()];
    // Acquire and release: what was last done to any object of the page comes before its end.
    if (known.fetch_add(here, std::memory_order_acq_rel) + here == page_size()) {
      if (dead.empty()) dead.base = page.base;
      dead.length = Pages{dead.length.count() + 1};
    } else if (!dead.empty()) {
      drop(dead);
      dead = {};
    }
    at = end;
  }
  if (!dead.empty()) drop(dead);
}

void ArenaState::drop(PageRange pages) noexcept {
  if (!region.guard(pages)) {
    pages_kept.fetch_add(pages.length.count(), std::memory_order_relaxed);
    return;
  }
  pages_dropped.fetch_add(pages.length.count(), std::memory_order_relaxed);
  const std::size_t per_chunk = kChunk >> page_shift();
  const std::size_t end = offset_of(pages.end()) >> page_shift();
  for (std::size_t page = offset_of(pages.base) >> page_shift(); page < end;) {
    const std::size_t chunk = page / per_chunk;
    const std::size_t until = std::min(end, (chunk + 1) * per_chunk);
    const auto here = static_cast<std::uint32_t>(until - page);
    // After the guards are there, so that none is put up in what replaces the chunk.
    if (dead_pages_[chunk].fetch_add(here, std::memory_order_acq_rel) + here == per_chunk)
      drop_chunk(chunk);
    page = until;
  }
}

void ArenaState::drop_chunk(std::size_t index) noexcept {
  std::byte* const base = region.data() + index * kChunk;
  // Where the kernel has no mapping left for it, the guards stay, and do the same.
  if (sys::replace_by_nothing({base, pages_for(kChunk)}) != 0) return;
  chunks_dropped.fetch_add(1, std::memory_order_relaxed);
  const PageRange bits = pages_covering(&life_word(index * kChunk), kChunk / kGranule / 8);
  // All zero, and so they stay; a refusal would keep 16 KiB.
  if (bits.size_bytes() == kChunk / kGranule / 8)
    static_cast<void>(sys::advise(bits, MADV_DONTNEED));
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
