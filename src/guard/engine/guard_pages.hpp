// GuardPages: opens and closes pages of the reservation. Three mechanisms, chosen once.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/result.hpp>
#include <pagetrap/guard/heap.hpp>

#include "guard/engine/layout.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// Threads  any, on different pages.
class GuardPages {
 public:
  constexpr GuardPages() = default;
  /// Reserves addresses, all of them guards. Halves `bytes` until the kernel agrees.
  Result<Layout> reserve(Mechanism wanted, std::size_t bytes) noexcept;
  void give_back() noexcept;
  [[nodiscard]] Mechanism mechanism() const noexcept PAGETRAP_SIGNAL_SAFE { return mechanism_; }

  /// Before the first page of a chunk of small slots is opened, and when it is used again.
  /// `joined`: -1, or, for one that was retired, how many of its neighbours are.
  bool arm(std::size_t chunk, int joined) noexcept;
  /// All pages of a chunk are closed for good: its page tables go. `neighbours`: how many of the
  /// two are retired already, and become one mapping with it. False: that would be too many
  /// mappings.
  bool retire(std::size_t chunk, int neighbours) noexcept;

  /// Of small slots. Contents: zeroes. False: the kernel refused (memory, or its count of
  /// mappings).
  bool open(PageRange pages) noexcept;
  void close(PageRange pages) noexcept;
  /// Opens `to` with the frame that `from` has, which is closed. False: nothing has changed.
  bool move(PageRange from, PageRange to) noexcept;
  /// The same for large slots, which have a mapping of their own.
  bool open_large(PageRange pages) noexcept;
  void close_large(PageRange pages) noexcept;

  /// Of the kernel's mappings. False: there would be too many.
  bool count_mapping(int how_many) noexcept;

  /// After a report: lets the access to `page` go on. Signal-safe.
  bool let_through(PageRange page) noexcept PAGETRAP_SIGNAL_SAFE;
  void close_again(PageRange page) noexcept;
  /// Faults come to a thread that reads descriptor(), those of system calls too, and no longer as
  /// SIGBUS. False: the kernel does not have that for us, and nothing has changed.
  bool deliver_to_thread() noexcept;
  [[nodiscard]] static bool can_deliver_to_thread() noexcept;
  /// A page that is there already is as it should be, unless it is poisoned.
  bool fill(PageRange page, const void* contents) noexcept;
  /// For that thread.
  void zero(PageRange page) noexcept;
  /// An access to it is a SIGBUS.
  void poison(PageRange page) noexcept;
  void wake(PageRange page) noexcept;

  /// In a fork()ed child: guards that were missing pages are armed again.
  void in_child() noexcept;
  /// The descriptor that must stay open, or -1.
  [[nodiscard]] int descriptor() const noexcept { return uffd_.load(std::memory_order_relaxed); }

 private:
  bool reserve_addresses(std::size_t bytes, int protection) noexcept;
  /// -1: the kernel refuses.
  [[nodiscard]] int open_uffd() const noexcept;
  [[nodiscard]] PageRange small_range() const noexcept;
  bool use(int opened) noexcept;
  /// Somebody closed our descriptor. False: it cannot be had again.
  bool reopen(int lost) noexcept;
  [[nodiscard]] PageRange chunk_range(std::size_t chunk) const noexcept;

  Layout layout_;
  std::byte* mapped_ = nullptr;  // what munmap takes
  std::size_t mapped_bytes_ = 0;
  std::byte* zeroes_ = nullptr;
  Mechanism mechanism_ = Mechanism::best;
  std::atomic<int> uffd_{-1};
  std::atomic<bool> reopening_{false};
  std::atomic<bool> to_thread_{false};
  std::atomic<int> mappings_{0};  // of the kernel's, more or less, that we made
  int most_mappings_ = 0;
};

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
