// Build configuration: the three macros of the project, and nothing else.
#pragma once

/// Marks what the shared library exports.
#define PAGETRAP_API __attribute__((visibility("default")))

/// Version, as `major * 10000 + minor * 100 + patch`.
#define PAGETRAP_VERSION 100

/// On a function that may run inside a signal handler: it allocates nothing, takes no lock, throws
/// nothing. clang >= 20 proves it transitively (-Wfunction-effects); other compilers read a
/// comment. Position: after noexcept, before the trailing return type.
#if defined(__has_cpp_attribute)
#if __has_cpp_attribute(clang::nonblocking)
#define PAGETRAP_SIGNAL_SAFE [[clang::nonblocking]]
#endif
#endif
#ifndef PAGETRAP_SIGNAL_SAFE
#define PAGETRAP_SIGNAL_SAFE
#endif
