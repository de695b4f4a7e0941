// What is known of each page of a heap.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// A page's number, from the beginning of the heap.
using PageIndex = std::uint32_t;
inline constexpr PageIndex kNoPage = ~PageIndex{0};
inline constexpr std::size_t kPageBytes = 4096;  // Heap::create refuses others

enum class PageKind : std::uint8_t {
  free,
  young,             // nursery: new objects, and those that stacks pin there
  old,               // survivors with references: a full cycle leaves them where they are
  sparse,            // the same, more than half of them dead: a full cycle evacuates them
  leaf,              // survivors without
  sparse_leaf,       //
  large,             // the first page of a large object with references
  young_large,       // ... made since the last flip
  leaf_large,        // the same without references
  young_leaf_large,  //
  tail,              // a large object's further pages
};
inline constexpr std::size_t kPageKinds = 11;

inline constexpr bool is_large(PageKind kind) noexcept PAGETRAP_SIGNAL_SAFE {
  return kind >= PageKind::large && kind != PageKind::tail;
}
inline constexpr bool is_old(PageKind kind) noexcept PAGETRAP_SIGNAL_SAFE {
  return kind == PageKind::old || kind == PageKind::sparse;
}
inline constexpr bool is_young(PageKind kind) noexcept PAGETRAP_SIGNAL_SAFE {
  return kind == PageKind::young || kind == PageKind::young_large ||
         kind == PageKind::young_leaf_large;
}

struct PageInfo {
  /// In `fill`: nothing more is copied into the page. Who sets it sees that the page is scanned.
  static constexpr std::uint32_t kClosed = std::uint32_t{1} << 31;

  std::atomic<std::uint32_t> fill{0};     // bytes in use, all of them complete objects
  std::atomic<std::uint32_t> epoch{0};    // the cycle it was made, pinned or marked in
  std::atomic<std::uint32_t> scanned{0};  // the last cycle that scanned all of it
  std::atomic<std::uint32_t> opened{0};   // the last cycle that opened it
  std::atomic<std::uint32_t> due{0};      // the last cycle whose flip queued it, to be scanned
  std::atomic<std::uint32_t> done{0};     // bytes that the owner of a copy buffer has scanned
  std::uint32_t extent = 0;  // first page of a large object: how many; tail: how far to the first
  std::atomic<PageKind> kind{PageKind::free};
  std::atomic<bool> remembered{false};  // is in the list of pages that refer to pinned young ones
  std::atomic<bool> queued{false};      // has marked objects that are to be scanned
};
static_assert(sizeof(PageInfo) <= 32);

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
