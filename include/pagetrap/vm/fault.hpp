// A fault, and what a handler may say about it. TRAP in Appel & Li 1991, section 2.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {

class Region;

/// Rights that a page grants. Execution is not managed here.
enum class Access : std::uint8_t { none, read, read_write };

/// Why an access faulted, in the client's terms (what was last asked for that page), whichever
/// kernel mechanism reports it. As bits, so that they also form a FaultSet.
enum class FaultKind : std::uint8_t {
  missing = 1,          // the page has no contents: never supplied, or discarded
  minor = 2,            // the contents exist in the backing, this view does not map them: evicted
  write_protected = 4,  // a write to a page whose access is `read`
  no_access = 8,        // any access to a page whose access is `none`, or a guard
};

/// A set of FaultKind.
class FaultSet {
 public:
  constexpr FaultSet() = default;
  constexpr FaultSet(FaultKind kind) noexcept : bits_(static_cast<std::uint8_t>(kind)) {}
  [[nodiscard]] constexpr bool has(FaultKind kind) const noexcept PAGETRAP_SIGNAL_SAFE {
    return (bits_ & static_cast<std::uint8_t>(kind)) != 0;
  }
  [[nodiscard]] constexpr bool covers(FaultSet other) const noexcept PAGETRAP_SIGNAL_SAFE {
    return (bits_ & other.bits_) == other.bits_;
  }
  [[nodiscard]] constexpr bool empty() const noexcept PAGETRAP_SIGNAL_SAFE { return bits_ == 0; }
  friend constexpr FaultSet operator|(FaultSet a, FaultSet b) noexcept {
    FaultSet both;
    both.bits_ = static_cast<std::uint8_t>(a.bits_ | b.bits_);
    return both;
  }
  friend constexpr bool operator==(FaultSet, FaultSet) noexcept = default;

 private:
  std::uint8_t bits_ = 0;
};
constexpr FaultSet operator|(FaultKind a, FaultKind b) noexcept {
  return FaultSet{a} | FaultSet{b};
}

/// One fault. Valid only during the handler's call.
struct Fault {
  std::byte* address = nullptr;  // the byte touched; the page's base where the kernel tells no more
  PageRange page;                // the page that holds it
  FaultKind kind = FaultKind::missing;
  bool write = false;   // the access was a store
  bool frozen = false;  // the region is frozen (freeze.hpp): the access may only go on after thaw
  pid_t thread = 0;     // thread id of the faulting thread, 0 if not known
  void* context = nullptr;   // its ucontext_t* when delivered in the faulting thread, else null
  Region* region = nullptr;  // borrowed; usable from the handler
};
static_assert(std::is_trivially_copyable_v<Fault>);

/// A handler's answer.
enum class Verdict : std::uint8_t {
  resolved,  // the page is accessible now: run the access again
  retry,     // somebody else resolves it: run the access again (it may fault again); if the region
             // is frozen, wait for the thaw first
  not_mine,  // a genuine error: give the signal to whoever was there before pagetrap. From a
             // handler thread the page is closed (mprotect) for the thread to get its SIGSEGV, or
             // the system call EFAULT, and stays so, without asking again, until it is opened by
             // unprotect() or supply()
};

/// Called for each fault in a region.
///
/// Threads  Any number of threads at once, also several for one page: two threads that touch a page
///          together both fault. A handler must therefore be idempotent: resolving a page that has
///          been resolved already is not an error in any call of Region (RACE double-fault).
/// Signals  In the faulting thread it runs inside a signal handler: allocate nothing, take no lock
///          that the interrupted code may hold, do not throw. It may fault itself, in another page.
///          In a handler thread any code may run, except touching pages served by that thread.
/// Leaving  In the faulting thread it may be left by siglongjmp (with the mask saved by sigsetjmp).
///          The end of its region then takes 50 ms longer, in which all threads are asked whether
///          they are still inside. Rights to protection keys stay as the handler had them: all
///          open. It may not switch stacks (swapcontext) while it runs.
using Handler = Verdict (*)(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace v0
}  // namespace pagetrap
