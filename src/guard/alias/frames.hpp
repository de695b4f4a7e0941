// Frames: memory of small blocks, several to a page, in extents of 512 pages of one memory object.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

inline constexpr std::size_t kExtentPages = 512;
inline constexpr std::size_t kLargestShared = 2048;  // two of them to a page

/// Of blocks that share pages: 16 bytes apart up to 256, then 64, 128 and 256.
inline constexpr unsigned kUnits = 28;
constexpr unsigned unit_for(std::size_t size) noexcept {
  if (size <= 16) return 0;
  if (size <= 256) return static_cast<unsigned>((size + 15) / 16 - 1);
  if (size <= 512) return static_cast<unsigned>(15 + (size - 256 + 63) / 64);
  if (size <= 1024) return static_cast<unsigned>(19 + (size - 512 + 127) / 128);
  return static_cast<unsigned>(23 + (size - 1024 + 255) / 256);
}
constexpr std::size_t unit_bytes(unsigned unit) noexcept {
  if (unit < 16) return 16 * (unit + 1);
  if (unit < 20) return 256 + 64 * (unit - 15);
  if (unit < 24) return 512 + 128 * (unit - 19);
  return 1024 + 256 * (unit - 23);
}
static_assert(unit_for(kLargestShared) == kUnits - 1 && unit_bytes(kUnits - 1) == kLargestShared);

/// Blocks of one unit. Threads  any.
struct Extent {
  std::uint64_t file_offset = 0;
  unsigned unit = 0;
  std::uint32_t pages = 0;  // kExtentPages at most: rare units begin with few
  std::atomic<std::uint32_t> unused{0};
  Extent* next = nullptr;  // of the list that it is on, of this unit
  // On a thread's list, or on that of extents that were full and have room again. Full ones are on
  // none, or each view would be looked for among them.
  std::atomic<bool> listed{true};
  std::uint32_t used_up = 0;  // views of it: after the first all its pages are there
  bool is_huge = false;       // one frame of 2 MiB
  // A bit for each unused block, page by page.
  std::array<std::array<std::atomic<std::uint64_t>, 4>, kExtentPages> bits{};

  /// Takes a block of the page. False: it has none. Neighbours in a view begin at different places
  /// of their frames, or they would all compete for a few lines of the CPU's cache.
  bool take(std::size_t page, unsigned& block) noexcept {
    for (int turn = 0; turn < 4; ++turn) {
      const unsigned word = (static_cast<unsigned>(turn) + static_cast<unsigned>(page)) % 4;
      const std::uint64_t set = bits[page][word].load(std::memory_order_acquire);
      if (set == 0) continue;
      const unsigned from = static_cast<unsigned>(page / 4) % 64;
      const auto bit =
          (static_cast<unsigned>(std::countr_zero(std::rotr(set, static_cast<int>(from)))) + from) %
          64;
      const std::uint64_t mask = std::uint64_t{1} << bit;
      // RACE two threads take: an extent that was full and has room again may have another's view.
      if ((bits[page][word].fetch_and(~mask, std::memory_order_acquire) & mask) == 0) {
        --turn;
        continue;
      }
      unused.fetch_sub(1, std::memory_order_relaxed);
      block = word * 64 + bit;
      return true;
    }
    return false;
  }
  /// Returns how many are unused now.
  std::uint32_t put(std::size_t page, unsigned block) noexcept {
    bits[page][block / 64].fetch_or(std::uint64_t{1} << (block % 64), std::memory_order_release);
    return unused.fetch_add(1, std::memory_order_seq_cst) + 1;
  }
  [[nodiscard]] std::uint32_t capacity() const noexcept;
};

class SharedFrames {
 public:
  constexpr SharedFrames() = default;
  Result<Done> begin() noexcept;
  void end() noexcept;
  /// Null: no memory.
  Extent* new_extent(unsigned unit) noexcept;
  /// A block of it is unused again.
  void give_back(Extent& extent, std::size_t page, unsigned block) noexcept;
  /// It is on no list any more. Room that comes, or came meanwhile, puts it on that of this unit.
  void unlist(Extent& extent) noexcept;
  /// A listed one of a thread that ends.
  void leave(Extent& extent) noexcept;
  /// All extents of the unit that have room and are no thread's, as a list. Null: none.
  Extent* take_returned(unsigned unit) noexcept;
  /// Maps the extent at `where`.
  bool map(const Extent& extent, std::byte* where) noexcept;
  /// Makes its frames one of 2 MiB, through a view of it, so that later views cost one fault each.
  void collapse(Extent& extent, std::byte* view) noexcept;
  [[nodiscard]] int descriptor() const noexcept { return file_; }

  /// fork(): a copy is made before, since shared memory stays shared. The child takes it.
  void copy_for_child() noexcept;
  void forget_copy() noexcept;
  /// False: there is none.
  bool take_copy() noexcept;

 private:
  int file_ = -1;
  int copy_ = -1;
  std::byte* extents_ = nullptr;
  std::atomic<std::size_t> extents_made_{0};
  void list_again(Extent& extent) noexcept;
  std::array<std::atomic<Extent*>, kUnits> returned_{};
  std::array<std::atomic<std::uint32_t>, kUnits> pages_made_{};
};

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
