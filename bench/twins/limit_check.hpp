// The software twin of a guard page at the end of the nursery: the limit check of bump allocation.
//
// SOURCE  A. Appel, "Simple generational garbage collection and fast allocation", Software Practice
//         and Experience 19(2), 1989: the check is the dearest part of an allocation, and a page
//         without access makes it unnecessary (Appel & Li 1991, section 3, heap overflow).
#pragma once

#include <cstddef>

namespace pagetrap::bench::twins {

/// A nursery that is refilled by starting over. Keep it in a local variable: cursor and limit then
/// live in registers, as in the paper's system, which is the cheapest that a check can be.
class Nursery {
 public:
  Nursery(std::byte* base, std::size_t size_bytes) noexcept
      : base_(base), cursor_(base), limit_(base + size_bytes) {}

  /// With the check.
  [[gnu::always_inline]] std::byte* allocate(std::size_t size_bytes) noexcept {
    // Of what is left, not of the sum, which may wrap.
    if (size_bytes > static_cast<std::size_t>(limit_ - cursor_)) [[unlikely]] {
      cursor_ = collect(base_);
    }
    return allocate_unchecked(size_bytes);
  }

  /// Without: the page at the limit faults.
  [[gnu::always_inline]] std::byte* allocate_unchecked(std::size_t size_bytes) noexcept {
    std::byte* const object = cursor_;
    cursor_ = object + size_bytes;
    return object;
  }

  void refill() noexcept { cursor_ = base_; }

 private:
  /// A call, as the collector would be, but by value: the nursery's address does not escape.
  [[gnu::noinline]] static std::byte* collect(std::byte* base) noexcept { return base; }

  std::byte* base_;
  std::byte* cursor_;
  std::byte* limit_;
};

}  // namespace pagetrap::bench::twins
