// Views: 2 MiB of addresses through which one extent is seen. Of each page one block is handed out,
// so that each block has a page of addresses to itself while it shares its frame. The block's
// neighbours in the frame are seen through other views.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "guard/alias/frames.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// What is known of a view, by its chunk.
struct View {
  Extent* extent = nullptr;
  std::atomic<std::uint32_t> alive{0};  // blocks, and one while it is being handed out
};

/// A thread's, for one unit.
struct ViewCursor {
  View* view = nullptr;
  std::size_t first = 0;  // slot of its first page
  std::size_t next = kExtentPages;
  Extent* extents = nullptr;  // those that this thread takes from
};

/// A block that is freed and whose page is still open.
struct Pending {
  std::size_t slot = 0;
  unsigned block = 0;
};
inline constexpr std::size_t kBatch = 64;

struct ThreadViews {
  std::array<ViewCursor, kUnits> cursors{};
  std::array<Pending, kBatch> pending{};
  std::size_t pending_count = 0;
};

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
