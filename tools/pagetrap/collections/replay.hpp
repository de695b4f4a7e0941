// The pages of a heap during one cycle: their states at any instant, and frames for a screen.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "heap_trace.hpp"

namespace pagetrap::tool {

enum class PageState : std::uint8_t {
  untouched,  // nothing has been heard of it yet in this cycle
  unscanned,  // closed
  opening,    // is being scanned, or has been and waits to be opened
  open,
  trapped,  // open, by the trap of a thread that touched it
  pinned,   // open, and stays where it is
};
inline constexpr std::size_t kPageStates = 6;
const char* name(PageState state) noexcept;

/// Consecutive pages of a heap that anything is known of in a cycle.
struct PageRun {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  friend bool operator==(const PageRun&, const PageRun&) = default;
};

/// Goes through a cycle's events, forwards only. Pages are those of runs(), one after the other;
/// the nursery, which is never closed, is not among them.
class Replay {
 public:
  /// Throws SystemError, EBADMSG: the cycle has more pages than any heap.
  explicit Replay(const CollectionCycle& cycle);

  [[nodiscard]] const std::vector<PageRun>& runs() const noexcept { return runs_; }
  [[nodiscard]] std::size_t pages() const noexcept { return states_.size(); }

  /// Up to and with the events of `nanoseconds`.
  void advance(std::uint64_t nanoseconds);
  [[nodiscard]] const std::vector<PageState>& states() const noexcept { return states_; }
  [[nodiscard]] std::array<std::size_t, kPageStates> counts() const;

 private:
  void apply(const PageEvent& event);
  [[nodiscard]] std::size_t place_of(std::uint64_t page) const;

  const CollectionCycle& cycle_;
  std::vector<PageRun> runs_;
  std::vector<std::size_t> places_;  // where each run begins in states_
  std::vector<PageState> states_;
  std::size_t next_ = 0;
};

/// A screen of `cells` letters at most for so many pages: each stands for equally many neighbours,
/// and says what most of those are of which anything is known.
///
///     #  closed    o  being scanned    .  open    !  opened by a trap
///     P  one of them is pinned (a space: nothing has been heard of any)
std::string draw(const std::vector<PageState>& states, std::size_t cells);

/// How many pages a letter of draw() stands for.
std::size_t pages_per_cell(std::size_t pages, std::size_t cells);

/// Instants to look at: when threads go on, the end, and between them where equally many pages have
/// been opened, so that no two frames are alike. `count` >= 2.
std::vector<std::uint64_t> instants(const CollectionCycle& cycle, std::size_t count);

}  // namespace pagetrap::tool
