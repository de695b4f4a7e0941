// The depot: each stack once, under a number of 4 bytes. Nothing is ever taken out.
#pragma once

#include <cstddef>
#include <cstdint>

#include <pagetrap/core/config.hpp>

#include "guard/report/finding.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// Frames that are kept of a stack at malloc and free.
inline constexpr std::size_t kKeptFrames = 16;

/// The number of a stack of kKeptFrames at most, whose 64-bit hash this is. 0: no memory for it.
/// Threads  any; takes no lock.
std::uint32_t remember_stack(const std::uintptr_t* frames, std::size_t count,
                             std::uint64_t hash) noexcept;
/// Empty for 0.
Frames recall_stack(std::uint32_t number) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
