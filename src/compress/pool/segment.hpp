// Segment: a few pages of blobs, one after the other, with their directory growing from the end.
//
//   | blob | blob |hole| blob |          free          | entry 2 | entry 1 | entry 0 |
//                              tail                     directory, in order of offsets
//
// No synchronisation: the slab that owns it has a lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {
namespace compress {

/// The part of a segment that is kept elsewhere, so that looking for room touches no blob.
struct SegmentState {
  std::uint32_t free = 0;   // bytes, holes included: what a blob and its entry may take
  std::uint32_t count = 0;  // of blobs
  std::uint32_t tail = 0;   // the end of the last blob
  std::uint32_t previous = 0, next = 0;  // of the same bin: index + 1
};

class Segment {
 public:
  struct Entry {
    std::uint32_t blob;
    std::uint32_t offset;  // 16 bits are not enough where pages are of 64 KiB
    std::uint32_t length;
  };
  static_assert(sizeof(Entry) == 12);

  // Longer ones leave smaller remainders, and are slid longer.
  static constexpr Pages kPages{8};
  static std::size_t size_bytes() noexcept PAGETRAP_SIGNAL_SAFE { return bytes(kPages); }
  static std::size_t room_for(std::size_t length) noexcept PAGETRAP_SIGNAL_SAFE {
    return length + sizeof(Entry);
  }

  Segment(std::byte* base, SegmentState& state) noexcept PAGETRAP_SIGNAL_SAFE : base_(base),
                                                                                state_(state) {}

  void clear() noexcept PAGETRAP_SIGNAL_SAFE {
    state_.free = static_cast<std::uint32_t>(size_bytes());
    state_.count = state_.tail = 0;
  }

  /// Memory for a blob. Precondition: state.free >= room_for(length). `slid` counts bytes moved.
  std::byte* add(std::uint32_t blob, std::size_t length, std::size_t& slid) noexcept
      PAGETRAP_SIGNAL_SAFE {
    const std::size_t directory = size_bytes() - (state_.count + std::size_t{1}) * sizeof(Entry);
    state_.free -= static_cast<std::uint32_t>(room_for(length));
    std::size_t place = state_.count;
    std::size_t offset = state_.tail;
    if (state_.tail > directory || directory - state_.tail < length) {
      place = state_.tail <= directory ? find_hole(length, offset) : kNone;
      if (place == kNone) {
        slid += slide();
        place = state_.count;
        offset = state_.tail;
      }
    }
    insert(place, {blob, static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(length)});
    return base_ + offset;
  }

  /// Its bytes; empty if it is not here.
  [[nodiscard]] std::span<std::byte> find(std::uint32_t blob) const noexcept PAGETRAP_SIGNAL_SAFE {
    const std::size_t place = place_of(blob);
    if (place == kNone) return {};
    const Entry found = entry(place);
    return {base_ + found.offset, found.length};
  }

  /// How long it was; 0 if it is not here.
  std::size_t remove(std::uint32_t blob) noexcept PAGETRAP_SIGNAL_SAFE {
    const std::size_t place = place_of(blob);
    if (place == kNone) return 0;
    const std::size_t length = entry(place).length;
    // The entries after it are below it in memory.
    std::byte* const last = entry_address(state_.count - std::size_t{1});
    std::memmove(last + sizeof(Entry), last,
                 (state_.count - std::size_t{1} - place) * sizeof(Entry));
    --state_.count;
    state_.free += static_cast<std::uint32_t>(room_for(length));
    state_.tail = state_.count == 0 ? std::uint32_t{0} : end_of(entry(state_.count - 1U));
    return length;
  }

  /// Its blobs, by number. Precondition: place < state.count.
  [[nodiscard]] Entry at(std::size_t place) const noexcept PAGETRAP_SIGNAL_SAFE {
    return entry(place);
  }

 private:
  static constexpr std::size_t kNone = ~std::size_t{0};

  static std::uint32_t end_of(Entry entry) noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<std::uint32_t>(entry.offset + entry.length);
  }
  [[nodiscard]] std::byte* entry_address(std::size_t place) const noexcept PAGETRAP_SIGNAL_SAFE {
    return base_ + size_bytes() - (place + 1) * sizeof(Entry);
  }
  [[nodiscard]] Entry entry(std::size_t place) const noexcept PAGETRAP_SIGNAL_SAFE {
    Entry found;
    std::memcpy(&found, entry_address(place), sizeof found);
    return found;
  }
  [[nodiscard]] std::size_t place_of(std::uint32_t blob) const noexcept PAGETRAP_SIGNAL_SAFE {
    for (std::size_t place = 0; place < state_.count; ++place)
      if (entry(place).blob == blob) return place;
    return kNone;
  }

  void insert(std::size_t place, Entry added) noexcept PAGETRAP_SIGNAL_SAFE {
    std::byte* const lowest = entry_address(state_.count);
    std::memmove(lowest, lowest + sizeof(Entry), (state_.count - place) * sizeof(Entry));
    std::memcpy(entry_address(place), &added, sizeof added);
    if (place == state_.count) state_.tail = end_of(added);
    ++state_.count;
  }

  /// The first hole that is long enough: the place of its entry. kNone: there is none.
  std::size_t find_hole(std::size_t length, std::size_t& offset) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    std::size_t end = 0;
    for (std::size_t place = 0; place < state_.count; ++place) {
      const Entry here = entry(place);
      if (here.offset - end >= length) {
        offset = end;
        return place;
      }
      end = end_of(here);
    }
    return kNone;
  }

  /// Leaves no hole. Returns the bytes moved.
  std::size_t slide() noexcept PAGETRAP_SIGNAL_SAFE {
    std::size_t end = 0;
    std::size_t moved = 0;
    for (std::size_t place = 0; place < state_.count; ++place) {
      Entry here = entry(place);
      if (here.offset != end) {
        std::memmove(base_ + end, base_ + here.offset, here.length);
        moved += here.length;
        here.offset = static_cast<std::uint32_t>(end);
        std::memcpy(entry_address(place), &here, sizeof here);
      }
      end += here.length;
    }
    state_.tail = static_cast<std::uint32_t>(end);
    return moved;
  }

  std::byte* base_;
  SegmentState& state_;
};

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
