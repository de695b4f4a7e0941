// Protection keys: the register, its copy in a signal frame, and allocation. On machines without
// them every call says so and nothing is emitted that would trap.
#pragma once

#include <cstdint>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap::sys {

/// Two bits for each key: 1 forbids all access, 2 forbids writes. pkeys(7).
inline constexpr std::uint32_t kDenyAccess = 1;
inline constexpr std::uint32_t kDenyWrite = 2;
inline constexpr std::uint32_t kDenyAll = 3;

/// Whether CPU and kernel have protection keys. Decided once, by pkey_alloc.
PAGETRAP_API bool have_protection_keys() noexcept;

/// A free key with full rights for the calling thread, or -errno (ENOSPC: all in use).
PAGETRAP_API int allocate_key() noexcept;
PAGETRAP_API void free_key(int key) noexcept;
/// Tags `range`; keeps `prot`. Returns errno or 0.
PAGETRAP_API int tag(PageRange range, int prot, int key) noexcept PAGETRAP_SIGNAL_SAFE;

/// The calling thread's rights register. Precondition of all below: have_protection_keys().
PAGETRAP_API std::uint32_t key_rights() noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API void set_key_rights(std::uint32_t rights) noexcept PAGETRAP_SIGNAL_SAFE;

/// The register as the interrupted code will get it back when the signal handler returns. Null if
/// the frame has no such field.
PAGETRAP_API std::uint32_t* key_rights_in_frame(void* context) noexcept PAGETRAP_SIGNAL_SAFE;

/// `rights` with the two bits of `key` replaced by `deny`.
constexpr std::uint32_t with_key(std::uint32_t rights, int key, std::uint32_t deny) noexcept {
  const unsigned shift = 2 * static_cast<unsigned>(key);
  return (rights & ~(kDenyAll << shift)) | (deny << shift);
}
constexpr std::uint32_t rights_of(std::uint32_t rights, int key) noexcept {
  return (rights >> (2 * static_cast<unsigned>(key))) & kDenyAll;
}

}  // namespace pagetrap::sys
