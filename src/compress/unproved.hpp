// unproved: calls into the compression libraries from the fault path. They are plain computations
// on the memory that they are given: no allocation, no lock, no errno.
#pragma once

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

template <class Work>
void unproved(Work work) noexcept PAGETRAP_SIGNAL_SAFE {
  sys::call_unproved([](void* self) { (*static_cast<Work*>(self))(); }, &work);
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
