// What a backend does: a record of functions over a RegionState. A new backend is one file that
// fills such a record, and one line in backend.cpp.
#pragma once

#include <cstddef>
#include <span>

#include <pagetrap/core/result.hpp>
#include <pagetrap/vm/region.hpp>

namespace pagetrap {
inline namespace v0 {

/// An Error whose number is 0 means success: the fault path's form of Result<Done>.
using Outcome = Error;
inline constexpr Outcome kDone{};

inline bool failed(const Outcome& outcome) noexcept PAGETRAP_SIGNAL_SAFE {
  return outcome.number != 0;
}
inline Result<Done> as_result(const Outcome& outcome) noexcept PAGETRAP_SIGNAL_SAFE {
  if (failed(outcome)) return outcome;
  return Done{};
}

inline bool is_userfaultfd(BackendId id) noexcept PAGETRAP_SIGNAL_SAFE {
  return id == BackendId::uffd_inline || id == BackendId::uffd_thread;
}
/// There is nothing in the page, and the first access says so.
inline bool is_empty(PageState state) noexcept PAGETRAP_SIGNAL_SAFE {
  return state == PageState::missing || state == PageState::evicted;
}
/// A page's state once its contents are there, to be accessed as `access` says.
inline PageState filled_state(Access access) noexcept PAGETRAP_SIGNAL_SAFE {
  return access == Access::read ? PageState::read : PageState::read_write;
}

struct BackendOperations {
  BackendId id = BackendId::null;
  /// Prepare a mapped, unpublished region. On error the region is torn down by the caller, which
  /// calls detach() too: it must cope with a half-attached state.
  Outcome (*attach)(RegionState& state) = nullptr;
  void (*detach)(RegionState& state) noexcept = nullptr;
  /// In a fork()ed child, before anything runs there: make the kernel agree with the page table of
  /// states again.
  Outcome (*rearm)(RegionState& state) noexcept = nullptr;

  // Fault path. Ranges are inside the region and not empty. The page states are kept by the
  // operation itself; each backend says in which order with the kernel's call, and why.
  Outcome (*protect)(RegionState& state, PageRange range, Access access) noexcept
      PAGETRAP_SIGNAL_SAFE = nullptr;
  Outcome (*unprotect)(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE = nullptr;
  Outcome (*supply)(RegionState& state, PageRange range, const std::byte* from, Supply how,
                    Access access, std::size_t& filled) noexcept PAGETRAP_SIGNAL_SAFE = nullptr;
  Outcome (*evict)(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE = nullptr;
  Outcome (*discard)(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE = nullptr;

  // Null where a backend has nothing better than one range after the other.
  Outcome (*discard_all)(RegionState& state, std::span<const PageRange> ranges) noexcept
      PAGETRAP_SIGNAL_SAFE = nullptr;
  /// See Region::move_out. Null: ENOTSUP.
  Outcome (*move_out)(RegionState& state, PageRange pages, RegionState& to, PageRange place,
                      std::size_t& moved) noexcept PAGETRAP_SIGNAL_SAFE = nullptr;
};

extern const BackendOperations kNullOperations;
extern const BackendOperations kMprotectOperations;
extern const BackendOperations kUffdInlineOperations;
extern const BackendOperations kUffdThreadOperations;
extern const BackendOperations kPkeyOperations;

/// discard_all and move_out of the userfaultfd backends.
Outcome uffd_discard_all(RegionState& state, std::span<const PageRange> ranges) noexcept
    PAGETRAP_SIGNAL_SAFE;
Outcome uffd_move_out(RegionState& state, PageRange pages, RegionState& to, PageRange place,
                      std::size_t& moved) noexcept PAGETRAP_SIGNAL_SAFE;

/// Drop the contents of `range` in the backing: MADV_DONTNEED, or a hole in the memory object.
Outcome drop_contents(RegionState& state, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace v0
}  // namespace pagetrap
