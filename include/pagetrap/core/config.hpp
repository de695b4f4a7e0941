// Build configuration: the macros of the project, and what depends on the architecture.
#pragma once

#include <cstddef>

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

namespace pagetrap {
inline namespace v0 {
namespace detail {

/// log2 of the page size where the architecture has only one; 0: read it at run time.
#if defined(__x86_64__)
inline constexpr unsigned kKnownPageShift = 12;
#else
inline constexpr unsigned kKnownPageShift = 0;
#endif

/// Whether the standard library is GNU's: the layout of its containers is known.
#if defined(__GLIBCXX__)
inline constexpr bool kLibstdcxx = true;
#else
inline constexpr bool kLibstdcxx = false;
#endif

}  // namespace detail
}  // namespace v0
}  // namespace pagetrap
