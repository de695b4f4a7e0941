// Memory of this room's own: mapped, never under malloc, whose memory may itself be paged.
#pragma once

#include <cstddef>

#include <pagetrap/core/result.hpp>

#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

/// Zeroes, committed as they are touched, in small pages, under `name` in /proc/PID/maps. `name` is
/// a literal.
Result<sys::Mapping> own_memory(std::size_t size_bytes, const char* name);

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
