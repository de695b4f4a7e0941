// Territory: one range of addresses from which the program's large anonymous mappings are given. So
// there is one region for all of them, whatever the program maps.
#pragma once

#include <atomic>
#include <cstddef>

#include <pagetrap/core/units.hpp>

namespace pagetrap::preload {

/// Threads  any. What is free is zeroes.
class Territory {
 public:
  /// `wanted` bytes of addresses, or half of that, and so on down to `least`. False: not even that.
  bool reserve(std::size_t wanted, std::size_t least) noexcept;

  [[nodiscard]] PageRange range() const noexcept { return range_; }
  [[nodiscard]] bool contains(const void* address) const noexcept {
    return range_.contains(address);
  }
  [[nodiscard]] bool touches(const void* address, std::size_t length) const noexcept;
  /// What is in use, in bytes.
  [[nodiscard]] std::size_t taken() const noexcept {
    return taken_.load(std::memory_order_relaxed);
  }
  /// Nothing beyond was ever given.
  [[nodiscard]] PageRange used_part() const noexcept;

  /// Null: no room. Aligned so that allocators which want alignment find it.
  std::byte* take(std::size_t size) noexcept;
  /// Exactly there. False: some of it is in use.
  bool take_at(PageRange wanted) noexcept;
  /// Marks as used what of it is free.
  void claim(PageRange wanted) noexcept;
  /// Zeroes by now. What of it is free already stays so.
  void give_back(PageRange range) noexcept;

  void lock() noexcept;
  void unlock() noexcept { locked_.store(false, std::memory_order_release); }

 private:
  struct Extent {
    std::byte* begin;
    std::byte* end;
  };
  void erase(std::size_t which) noexcept;
  bool insert(std::size_t which, Extent extent) noexcept;
  void remove(PageRange wanted) noexcept;
  [[nodiscard]] std::size_t first_ending_after(const std::byte* address) const noexcept;

  PageRange range_;
  std::atomic<bool> locked_{false};
  std::atomic<std::size_t> taken_{0};
  std::atomic<std::byte*> high_{nullptr};
  Extent* free_ = nullptr;  // GUARDED_BY(locked_): sorted, disjoint, not adjacent
  std::size_t count_ = 0;   // GUARDED_BY(locked_)
};

}  // namespace pagetrap::preload
