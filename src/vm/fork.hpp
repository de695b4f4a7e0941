// fork(): what each file must let be locked while it happens.
#pragma once

#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {

/// Installs the pthread_atfork handlers, once.
Result<bool> prepare_for_forks();

void lock_broadcast() noexcept;
void unlock_broadcast() noexcept;
void lock_installation() noexcept;
void unlock_installation() noexcept;

}  // namespace v0
}  // namespace pagetrap
