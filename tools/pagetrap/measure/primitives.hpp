// Short measurements of each primitive. Each runs to its end in the calling process and throws
// SystemError where the system refuses: call them by measure_apart().
#pragma once

#include <pagetrap/vm/backend.hpp>

#include "measured.hpp"

namespace pagetrap::tool {

/// Names of figures that others look for.
inline constexpr const char* kTrap = "trap";
inline constexpr const char* kProtectOne = "protect one page";
inline constexpr const char* kUnprotect = "unprotect in the handler";
inline constexpr const char* kCycle = "protect, trap, unprotect";
inline constexpr const char* kProtectMany = "protect, per page of 4096";
inline constexpr const char* kAppel1 = "appel 1";
inline constexpr const char* kAppel2 = "appel 2";

/// TRAP, PROT1, UNPROT on one page of a region served by `id`. For a backend without rights of
/// single pages, on the whole region (64 pages).
/// Precondition: the backend can raise write_protected or no_access faults.
void measure_trap(BackendId id, Budget budget, Measured& out);

/// PROTN: one call over many pages.
void measure_protect_many(BackendId id, Budget budget, Measured& out);

/// The two programs of Appel & Li 1991, over 100 pages, per page:
/// kAppel1  touch a protected page; the handler protects another page and unprotects this one.
/// kAppel2  protect all pages in one call, touch them in random order; the handler unprotects.
void measure_appel_li(BackendId id, Budget budget, Measured& out);

void measure_dirty(Budget budget, Measured& out);
void measure_map_twice(Budget budget, Measured& out);
void measure_guard(Budget budget, Measured& out);
void measure_freeze(Budget budget, Measured& out);
void measure_lift(Budget budget, Measured& out);
void measure_window(Budget budget, Measured& out);

/// Nanoseconds of one ADD: a chain of additions that each wait for the one before.
double measure_add();

}  // namespace pagetrap::tool
