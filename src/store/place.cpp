// Mapping a store: at home, where its file says, if it can be; else somewhere near.
#include "store/place.hpp"

#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "store/kept_text.hpp"
#include "store/resource.hpp"
#include "store/store_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

constexpr int kTries = 32;  // at places for a store whose own is taken: arbitrary

Outcome taken(Error error) {
  if (error.number == EEXIST)
    error.remedy =
        "the store's addresses are in use in this process, maybe by another store: "
        "StoreOptions::relocation";
  return error;
}

// Only typed blocks and the heap's own pointers can be found and changed.
Outcome check_typed(const HeapHeader& header) {
  if (header.magic != kHeapMagic) return kDone;
  bool free_blocks = false;
  for (const HeapHeader::Class& blocks : header.classes)
    free_blocks = free_blocks || blocks.free != nullptr;
  const std::uint64_t untyped = untyped_bytes(header);
  const bool known = header.map_directory != 0 || !free_blocks;
  if (untyped == 0 && known) return kDone;
  return {"Store::open",
          EEXIST,
          {},
          kept_text("the store's addresses are in use, and " + std::to_string(untyped) +
                    " bytes of its blocks have no pointer map: make them with store::Allocator, "
                    "or open it with RelocationMode::by_value")};
}

}  // namespace

std::uint64_t random_word() noexcept {
  std::uint64_t word = 0;
  // Where the kernel has no random numbers (it always has), the clock: two stores made at the same
  // nanosecond would want the same address, which is an error that says so.
  if (::getrandom(&word, sizeof word, 0) != sizeof word) {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    word = static_cast<std::uint64_t>(now.tv_nsec) * 0x9e37'79b9'7f4a'7c15;
  }
  return word;
}

// Between 20 and 32 TiB, where neither programs, their libraries and stacks nor the tables of
// sanitizers lie; and where the sixth byte of an address, its highest, is 0x14 to 0x1f: a control
// character that no text has. So six letters in a string, or the end of a longer one, never look
// like an address of a store (RelocationMode::by_value). At a multiple of the least power of two
// that holds a store of this size, so that two of the same size meet as a whole or not at all.
//
// The lower halves of all places of a store are the same. A number of 32 bits that was written over
// half a pointer (the colour of a tree's node, in memory that is used again) looks like an address
// together with what is left of that: then only the rest changes.
std::uint64_t random_base(std::uint64_t reserve_bytes, std::uint64_t lower_half) noexcept {
  constexpr std::uint64_t kHalf = std::uint64_t{1} << 32;
  constexpr std::uint64_t kFirst = std::uint64_t{0x14} << 40;
  constexpr std::uint64_t kEnd = std::uint64_t{0x20} << 40;
  const std::uint64_t shift = lower_half % kHalf;
  const std::uint64_t from = shift < kOwnBytes ? shift + kHalf : shift;
  const std::uint64_t step = std::bit_ceil(std::max(kHalf, from + reserve_bytes + kOwnBytes));
  // A file may say that it wants more than there is: it will be told so.
  const std::uint64_t places = std::max<std::uint64_t>((kEnd - kFirst) / step, 1);
  return kFirst + random_word() % places * step + from;
}

Outcome StoreState::map() {
  if (const Outcome outcome = renew_tables(); failed(outcome)) return outcome;
  const Outcome outcome = map_at(block_.base);
  if (outcome.number != EEXIST) return outcome;
  if (options_.relocation == RelocationMode::refuse) return taken(outcome);
  return map_elsewhere();
}

Outcome StoreState::renew_tables() {
  auto tables = Tables::create(block_.reserve_bytes / kPageBytes);
  if (!tables) return tables.error();
  tables_ = std::move(*tables);
  return kDone;
}

// Two stores of one file's copies, or two that chose the same place by chance.
Outcome StoreState::map_elsewhere() {
  if (options_.relocation == RelocationMode::typed) {
    for (PageNumber page = 0; page < kHotPages; ++page)
      if (const Outcome outcome = committed_->materialise(page); failed(outcome)) return outcome;
    const Outcome typed = check_typed(*reinterpret_cast<HeapHeader*>(committed_->image(0)));
    if (failed(typed)) return typed;
  }
  const std::uint64_t length = kOwnBytes + block_.reserve_bytes;
  Outcome outcome{"Store::open", EEXIST};
  for (int i = 0; i < kTries && outcome.number == EEXIST; ++i) {
    unmap();
    const std::uint64_t base = random_base(block_.reserve_bytes, block_.base);
    const std::uint64_t apart = base > block_.base ? base - block_.base : block_.base - base;
    if (apart <= length) continue;
    if (const Outcome renewed = renew_tables(); failed(renewed)) return renewed;
    forms_ = std::make_unique<Forms>(Relocation{block_.base - kOwnBytes, base - kOwnBytes, length},
                                     options_.relocation == RelocationMode::by_value, *committed_,
                                     tables_, block_.reserve_bytes / kPageBytes);
    committed_->set_forms(forms_.get());
    outcome = map_at(base);
  }
  return taken(outcome);
}

void StoreState::unmap() noexcept {
  detector_.reset();
  hot_.reset();
  own_.reset();
  committed_->set_forms(nullptr);
  forms_.reset();
  for (PageNumber page = 0; page < kHotPages; ++page) committed_->forget(page);
}

Outcome StoreState::map_at(std::uint64_t base) {
  base_ = reinterpret_cast<std::byte*>(base);
  heap_.set_base(base_);
  // All of it, though much may be used only later: what lies there now is in the way then.
  sys::Mapping::Request all;
  all.size_bytes = kOwnBytes + block_.reserve_bytes;
  all.prot = PROT_NONE;
  all.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  all.address = base_ - kOwnBytes;
  if (const auto is_free = sys::Mapping::create(all); !is_free) return is_free.error();
  return map_parts();
}

Outcome StoreState::map_parts() {
  sys::Mapping::Request request;
  request.size_bytes = kPageBytes;
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  request.address = base_ - kOwnBytes;
  auto own = sys::Mapping::create(request);
  if (!own) return own.error();
  own_ = std::move(*own);
  sys::name_mapping(own_.range(), "pagetrap store: own");
  request.size_bytes = kHotPages * kPageBytes;
  request.address = base_;
  auto hot = sys::Mapping::create(request);
  if (!hot) return hot.error();
  hot_ = std::move(*hot);
  sys::name_mapping(hot_.range(), "pagetrap store: heap");
  for (const PageRange range : {own_.range(), hot_.range()})
    if (::madvise(range.base, range.size_bytes(), MADV_DONTFORK) != 0)
      return {"madvise", errno, range};
  for (PageNumber page = 0; page < kHotPages; ++page) {
    if (const Outcome outcome = committed_->materialise(page); failed(outcome)) return outcome;
    std::memcpy(hot_.data() + page * kPageBytes, committed_->image(page), kPageBytes);
  }
  if (forms_ != nullptr || options_.check_pointers) {
    if (const Outcome outcome = tables_.find(*committed_); failed(outcome)) return outcome;
    heap_.map().set_retyped(&retyped_);
  }
  new (own_.data()) OwnPage(*this);
  heap_.set_grow(grow, this);
  return make_detector(stored_pages_);
}

Outcome StoreState::make_detector(std::size_t stored_pages) {
  const Territory territory{base_, block_.reserve_bytes / kPageBytes, committed_.get()};
  const auto make = [&]() -> Result<std::unique_ptr<Detector>> {
    switch (options_.detect) {
      case Detect::ring:
        return make_tracked_detector(territory, DirtyForm::ring, stored_pages);
      case Detect::scan:
        return make_tracked_detector(territory, DirtyForm::scan, stored_pages);
      case Detect::barrier:
        return make_barrier_detector(territory);
      case Detect::traps:
        return make_trap_detector(territory);
      case Detect::best:
        break;
    }
    // Two thirds of the cost of traps; needs Linux 6.7 and perf events.
    auto ring = make_tracked_detector(territory, DirtyForm::ring, stored_pages);
    return ring || ring.error().number == EEXIST ? std::move(ring) : make_trap_detector(territory);
  };
  auto detector = make();
  if (!detector) return detector.error();
  detector_ = std::move(*detector);
  if (options_.detect == Detect::barrier) heap_.set_announce(announce, this);
  return kDone;
}

// Pages of the store are declared without an error: the header's range says so.
void StoreState::announce(void* self, const void* place, std::size_t bytes) noexcept {
  static_cast<void>(static_cast<StoreState*>(self)->declare(place, bytes));
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
