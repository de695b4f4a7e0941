// Where stores are mapped.
#pragma once

#include <cstdint>

#include "store/outcome.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

/// In front of the data lie 2 MiB that are the process's own: the memory_resource is there, since
/// its virtual function table has another address in every process.
inline constexpr std::size_t kOwnBytes = std::size_t{2} << 20;

std::uint64_t random_word() noexcept;
/// For a store's data, with kOwnBytes in front of them. Its lower 32 bits are those of
/// `lower_half`.
std::uint64_t random_base(std::uint64_t reserve_bytes,
                          std::uint64_t lower_half = kOwnBytes) noexcept;

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
