// Where things are in an arena, and the tables beside it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/units.hpp>
#include <pagetrap/guard/object_type.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

using detail::kGranule;
using detail::kSpan;
constexpr std::size_t kChunk = 2_MiB;  // what one page of page tables maps on x86-64

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
