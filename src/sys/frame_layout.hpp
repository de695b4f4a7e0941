// Where things are in the kernel's signal frame.
#pragma once

#include <cstddef>
#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

/// The stack pointer that the frame of `context` interrupted; 0 where the layout is not known.
PAGETRAP_API std::uintptr_t interrupted_stack_pointer(const void* context) noexcept
    PAGETRAP_SIGNAL_SAFE;

/// The C library's sigreturn stub as the kernel has it for `signal`; 0 if unknown.
PAGETRAP_API std::uintptr_t signal_restorer(int signal) noexcept;

/// Whether `frame`, an address whose word is the restorer's, starts a genuine frame. Reads memory
/// through the kernel only.
PAGETRAP_API bool is_signal_frame(std::uintptr_t frame) noexcept PAGETRAP_SIGNAL_SAFE;

/// The ucontext_t inside the frame.
PAGETRAP_API void* context_of_frame(std::uintptr_t frame) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace pagetrap::sys
