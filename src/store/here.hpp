// Which thread and which process this is, without a system call.
#pragma once

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace store {

/// Not null; no other living thread's.
const void* this_thread_mark() noexcept PAGETRAP_SIGNAL_SAFE;

/// Changes in a fork()ed child.
unsigned process_generation() noexcept;
/// Once, before the first process_generation().
void watch_forks() noexcept;

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
