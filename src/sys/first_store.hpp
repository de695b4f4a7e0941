// The first store of an allocation (guard/bump.hpp), as a signal frame shows it, and where it goes
// when it is run again.
#pragma once

#include <cstddef>

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

/// What the interrupted allocation was about to make.
struct FirstStore {
  std::byte* object = nullptr;
  std::byte* next = nullptr;  // its end; the store goes to the eight bytes in front of it
};

/// Whether the instruction that `context` (a ucontext_t*) interrupted is such a store.
PAGETRAP_API bool is_first_store(const void* context, FirstStore& found) noexcept
    PAGETRAP_SIGNAL_SAFE;

/// The store runs again, as that of `instead`.
PAGETRAP_API void redirect_first_store(void* context, const FirstStore& instead) noexcept
    PAGETRAP_SIGNAL_SAFE;

/// The store does not run; the allocation goes on with `instead` all the same.
PAGETRAP_API void skip_first_store(void* context, const FirstStore& instead) noexcept
    PAGETRAP_SIGNAL_SAFE;

}  // namespace pagetrap::sys
