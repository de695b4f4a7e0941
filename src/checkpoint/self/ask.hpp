// A line to the supervisor, and its answer.
#pragma once

#include <cstdint>

#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

/// Sends "WORD ADDRESS\n", and `descriptor` if it is not -1, and waits for "ok\n". Allocates
/// nothing. Errors  ENOTCONN: nobody listens.
Result<Done> ask_supervisor(const char* word, const void* address, int descriptor) noexcept;

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
