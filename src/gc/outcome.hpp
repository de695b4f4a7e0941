// Outcome: Result<Done> for the fault path, trivially copyable.
#pragma once

#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// An Error whose number is 0 means success.
using Outcome = Error;
inline constexpr Outcome kDone{};

inline bool failed(const Outcome& outcome) noexcept PAGETRAP_SIGNAL_SAFE {
  return outcome.number != 0;
}
/// The same of a call of the ground floor.
template <class T>
Outcome outcome_of(const Result<T>& result) noexcept PAGETRAP_SIGNAL_SAFE {
  return result ? kDone : result.error();
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
