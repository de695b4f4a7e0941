// The vdso as an ELF file: its functions, and code that leads from an old one to a new one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// Functions by name: their offsets. Empty: it is no vdso that we know. Nothing in the bytes makes
/// it read beyond them.
std::map<std::string, std::uint64_t> vdso_functions(std::span<const std::byte> bytes);

/// `old` with a jump at each of its functions to that of `now`, which lies at `address`. Functions
/// that `now` lacks are appended to `missing`.
std::vector<std::byte> lead_to(std::span<const std::byte> old, std::span<const std::byte> now,
                               std::uint64_t address, std::vector<std::string>& missing);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
