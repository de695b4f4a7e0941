// Where things are in an arena, and the tables beside it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/units.hpp>
#include <pagetrap/guard/object_type.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

constexpr std::size_t kGranule = 16;      // objects begin at multiples
constexpr std::size_t kSpan = 64_KiB;     // of objects of one type
constexpr std::size_t kChunk = 2_MiB;     // what one page of page tables maps on x86-64
constexpr std::size_t kLargest = 16_KiB;  // of which a span holds several

/// How objects of a type lie in their spans.
struct Slots {
  std::size_t stride = 0;
  std::size_t spans = 1;  // that belong together
  std::uint32_t count = 0;

  static Slots of(const ObjectType& type) noexcept PAGETRAP_SIGNAL_SAFE {
    const std::size_t unit = std::max(type.alignment, kGranule);
    Slots slots;
    slots.stride = (type.size_bytes + unit - 1) / unit * unit;
    if (slots.stride <= kLargest) {
      slots.count = static_cast<std::uint32_t>(kSpan / slots.stride);
    } else {
      slots.spans = (slots.stride + kSpan - 1) / kSpan;
      slots.count = 1;
    }
    return slots;
  }
};

/// An entry of the table of spans. Written once, before any object of the span is handed out.
struct Span {
  std::atomic<const ObjectType*> type;  // null: not in use yet
  std::atomic<std::uint32_t> lead;      // how many spans before it is the first of its group
};

/// What lies at an address, or lay there.
struct Found {
  const ObjectType* type = nullptr;
  std::byte* object = nullptr;  // null: no object ever begins there
};

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
