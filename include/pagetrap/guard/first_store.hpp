// The one instruction of bump.hpp that a fault handler runs again at another address.
#pragma once

#include <cstddef>
#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace detail {

/// Stores `last_word` in front of `next`. If that faults in a guard, both pointers are changed.
///
/// ASSUMES  src/sys/first_store.cpp, which knows this instruction and its registers. The prefix
///          (ds) means nothing; no compiler puts it there. "memory": the handler may run a
///          collector.
#if defined(__x86_64__)
inline constexpr bool kRestartableStores = true;
[[gnu::always_inline]] inline void first_store(std::byte*& object, std::byte*& next,
                                               std::uint64_t last_word) noexcept {
  asm volatile(".byte 0x3e\n\tmovq %%rcx, -8(%%rdx)"
               : "+a"(object), "+d"(next)
               : "c"(last_word)
               : "memory");
}
#else
inline constexpr bool kRestartableStores = false;
// For completeness: allocations compare there.
inline void first_store(std::byte*&, std::byte*& next, std::uint64_t last_word) noexcept {
  __builtin_memcpy(next - sizeof last_word, &last_word, sizeof last_word);
}
#endif

}  // namespace detail
}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
