// Outcome: success or an Error, for functions that may run in a fault handler.
#pragma once

#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace store {

/// An Error whose number is 0 is success.
using Outcome = Error;
inline constexpr Outcome kDone{};
[[nodiscard]] constexpr bool failed(const Outcome& outcome) noexcept PAGETRAP_SIGNAL_SAFE {
  return outcome.number != 0;
}
[[nodiscard]] inline Result<Done> as_result(const Outcome& outcome) {
  if (failed(outcome)) return outcome;
  return Done{};
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
