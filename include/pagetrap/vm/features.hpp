// What this kernel, this machine and this user may do. Every fact is found by trying, not by
// comparing version numbers.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {

/// One thing that may or may not be there.
struct Feature {
  const char* id = "";       // stable, for machines: "uffd.wp_async"
  const char* purpose = "";  // what pagetrap uses it for, one line
  bool available = false;
  int error = 0;              // errno of the attempt, 0 if none
  const char* remedy = "";    // sysctl, capability, kernel version: what would make it available
  const char* fallback = "";  // what is used without it
};

/// All features, probed once per process; again by the next call if a probe ran out of descriptors
/// or memory (probing_error()). What an earlier call returned stays valid. Not signal-safe. Cost
/// about a millisecond, once.
PAGETRAP_API std::span<const Feature> features();

/// EMFILE, ENFILE or ENOMEM if the last probe ran into that: what it says is not available may be.
/// Else 0. Region::create then refuses to choose a backend.
PAGETRAP_API int probing_error();

/// Whether feature `id` is available; false for an unknown id.
PAGETRAP_API bool has_feature(const char* id);

/// vm.max_map_count when the program started, or 65530 if it could not be read. Signal-safe.
PAGETRAP_API std::size_t max_map_count() noexcept PAGETRAP_SIGNAL_SAFE;

/// Kernel release as uname(2) tells it.
PAGETRAP_API std::string kernel_release();

}  // namespace v0
}  // namespace pagetrap
