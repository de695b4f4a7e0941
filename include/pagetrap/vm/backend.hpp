// Backends: the kernel mechanisms behind the primitives, as capability records.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/vm/fault.hpp>

namespace pagetrap {
inline namespace v0 {

enum class BackendId : std::uint8_t {
  best,         // the first below, in order of preference, that covers what the options ask
  uffd_inline,  // userfaultfd, SIGBUS in the faulting thread
  uffd_thread,  // userfaultfd, messages read by handler threads
  mprotect,     // mprotect(2) and SIGSEGV in the faulting thread
  pkey,         // a protection key for the whole region, SIGSEGV in the faulting thread
  null,         // no protection: Region::touch() reports the faults an access would raise
};

/// What memory a region is made of.
enum class Backing : std::uint8_t {
  anonymous,  // private; copied on write by fork()
  memfd,      // a memory object of its own: can be mapped twice; shared with fork()ed children
  file,       // MAP_SHARED of a file's descriptor: contents persist
};

/// What a backend can do for a region over a given backing, with this kernel and this user.
struct Capabilities {
  FaultSet faults;               // kinds it can raise
  bool per_page = false;         // rights of single pages; else whole regions only
  bool faulting_thread = false;  // the handler runs in the faulting thread
  bool handler_thread = false;   // the handler runs in threads of its own
  bool kernel_accesses = false;  // system calls touching protected pages are served; else EFAULT
  bool no_splits = false;        // the number of kernel mappings does not grow with scattered calls
  bool no_shootdown = false;     // protecting interrupts no other CPU per page
};

/// One backend on this machine.
struct Backend {
  BackendId id = BackendId::null;
  const char* name = "";       // as in PAGETRAP_BACKEND, e.g. "uffd-inline"
  const char* mechanism = "";  // one line for people
  bool available = false;      // for anonymous memory, at least
  const char* reason = "";     // if not available: why
  const char* remedy = "";     // if not available: what would make it so
};

/// All backends, in order of preference, as probed once for this process.
/// Threads  any. Signals  not safe (the first call probes the kernel). Cost  microseconds, once.
PAGETRAP_API std::span<const Backend> backends();

/// What `id` can do for `backing` here. All false if it is not available. `best` has none.
PAGETRAP_API Capabilities capabilities(BackendId id, Backing backing);

PAGETRAP_API const char* name(BackendId id) noexcept;

/// The backend called `name`, as in PAGETRAP_BACKEND.
PAGETRAP_API std::optional<BackendId> backend_named(std::string_view name) noexcept;

}  // namespace v0
}  // namespace pagetrap
