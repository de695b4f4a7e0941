// The C libraries' types.
#pragma once

#include <cstddef>
#include <span>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace compress {

inline int as_int(std::size_t size) noexcept PAGETRAP_SIGNAL_SAFE {
  return static_cast<int>(size);  // of pages and dictionaries
}
inline const char* chars(std::span<const std::byte> bytes) noexcept PAGETRAP_SIGNAL_SAFE {
  return reinterpret_cast<const char*>(bytes.data());
}
inline char* chars(std::span<std::byte> bytes) noexcept PAGETRAP_SIGNAL_SAFE {
  return reinterpret_cast<char*>(bytes.data());
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
