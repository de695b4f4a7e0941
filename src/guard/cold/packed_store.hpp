// PackedStore: copies of objects, side by side, 16 bytes apart at the most.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// A copy's number; 0 and 1 are none.
using Packed = std::uint32_t;
inline constexpr Packed kNoCopy = 0;

class PackedStore {
 public:
  constexpr PackedStore() = default;
  Result<Done> begin() noexcept;
  void end() noexcept;

  /// One thread at a time. kNoCopy: no room.
  Packed put(const std::byte* object, std::size_t size) noexcept;
  [[nodiscard]] const std::byte* at(Packed copy) const noexcept { return memory_ + copy * kUnit; }
  /// Threads  any. The memory is kept for copies of that size.
  void drop(Packed copy, std::size_t size) noexcept;

 private:
  static constexpr std::size_t kUnit = 16;
  static constexpr std::size_t kClasses = 257;  // by units: an object of a page at most
  static std::size_t units(std::size_t size) noexcept { return (size + kUnit - 1) / kUnit; }

  std::byte* memory_ = nullptr;
  std::size_t room_ = 0;                 // units
  std::size_t used_ = 2;                 // units, by whoever puts
  std::atomic<Packed>* free_ = nullptr;  // lists, by class; in front of the memory
};

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
