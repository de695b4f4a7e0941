#include "vm/choose_backend.hpp"

#include <bit>
#include <cerrno>
#include <cstdlib>
#include <string_view>

#include <pagetrap/vm/features.hpp>

#include "vm/backends/operations.hpp"
#include "vm/process_files.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

bool resolved_by_kernel(DirtyForm form) {
  return form == DirtyForm::scan || form == DirtyForm::ring;
}

// What stands between `id` and these options; null: nothing.
const char* obstacle(BackendId id, const RegionOptions& options) {
  const Capabilities can = capabilities(id, options.backing);
  if (!can.faults.covers(options.faults))
    return "the backend cannot raise these kinds of fault for this backing (see pagetrap doctor)";
  if (options.delivery == Delivery::faulting_thread && !can.faulting_thread)
    return "the backend delivers to handler threads";
  if (options.delivery == Delivery::handler_threads && !can.handler_thread)
    return "the backend delivers in the faulting thread";
  if (options.kernel_accesses && !can.kernel_accesses)
    return "serving system calls needs uffd-thread and kernel-mode userfaultfd: root or "
           "CAP_SYS_PTRACE, sysctl vm.unprivileged_userfaultfd=1, or access to /dev/userfaultfd";
  if (options.liftable && !is_userfaultfd(id)) return "lift needs a userfaultfd backend";
  // A memory object's pages are put back by supply(publish), after minor faults.
  const bool minor_only =
      options.faults.has(FaultKind::minor) && !options.faults.has(FaultKind::missing);
  if (options.liftable && options.backing != Backing::anonymous &&
      (options.backing != Backing::memfd || !minor_only || id != BackendId::uffd_inline))
    return "lift needs anonymous memory, or a memfd with minor faults in the faulting thread";
  // A range can have one userfaultfd, and that one either resolves write faults itself or tells us.
  if (is_userfaultfd(id) && resolved_by_kernel(options.dirty) &&
      options.faults.has(FaultKind::write_protected))
    return "write_protected faults and DirtyForm::scan or ring exclude each other on userfaultfd; "
           "use DirtyForm::traps, or the mprotect backend";
  if (options.dirty == DirtyForm::traps &&
      (!can.per_page || !can.faults.has(FaultKind::write_protected)))
    return "DirtyForm::traps needs write-protect faults of single pages";
  return nullptr;
}

Outcome check(const RegionOptions& options) {
  const std::size_t alignment = options.alignment;
  if (alignment != 0 && !std::has_single_bit(alignment))
    return Error{"RegionOptions.alignment", EINVAL, {}, "must be a power of two"};
  if (options.backing == Backing::file && options.file < 0)
    return Error{"RegionOptions.file", EINVAL, {}, "Backing::file needs an open descriptor"};
  if (options.file_offset % static_cast<off_t>(page_size()) != 0)
    return Error{"RegionOptions.file_offset", EINVAL, {}, "must be a multiple of the page size"};
  if (options.handler_threads == 0 || options.handler_threads > 1024)
    return Error{"RegionOptions.handler_threads", EINVAL, {}, "must be between 1 and 1024"};
  if (options.faults.has(FaultKind::minor) && options.backing == Backing::anonymous)
    return Error{"RegionOptions.faults",
                 EINVAL,
                 {},
                 "private memory has no minor faults: evicting it drops its contents"};
  return kDone;
}

Outcome resolve_dirty(RegionOptions& options) {
  const bool async = has_feature("uffd.wp_async") && has_feature("pagemap_scan") &&
                     pagemap_descriptor() >= 0 && options.backing != Backing::file;
  if (options.dirty == DirtyForm::best) {
    const bool by_trap = !async || options.faults.has(FaultKind::write_protected) ||
                         options.backend == BackendId::null;
    options.dirty = by_trap ? DirtyForm::traps : DirtyForm::scan;
  }
  if (resolved_by_kernel(options.dirty) && !async)
    return Error{"RegionOptions.dirty",
                 ENOTSUP,
                 {},
                 "DirtyForm::scan and ring need Linux 6.7, anonymous or memfd memory, and a "
                 "/proc/self/pagemap that may be opened; use best"};
  if (options.faults.empty() && !resolved_by_kernel(options.dirty))
    options.faults = FaultKind::write_protected;
  return kDone;
}

// PAGETRAP_BACKEND replaces `best`; an unknown name is an error, not a silent default.
Outcome apply_environment(RegionOptions& options) {
  if (options.backend != BackendId::best) return kDone;
  const char* wanted = std::getenv("PAGETRAP_BACKEND");
  if (wanted == nullptr || *wanted == '\0') return kDone;
  const auto named = backend_named(wanted);
  if (!named)
    return Error{"PAGETRAP_BACKEND",
                 EINVAL,
                 {},
                 "known names: best uffd-inline uffd-thread mprotect pkey null"};
  options.backend = *named;
  return kDone;
}

}  // namespace

Outcome resolve_options(RegionOptions& options) {
  if (const Outcome outcome = check(options); failed(outcome)) return outcome;
  if (const Outcome outcome = apply_environment(options); failed(outcome)) return outcome;
  // What looks unavailable may be there: choose nothing less without a word.
  const bool chooses = options.backend == BackendId::best || is_userfaultfd(options.backend);
  if (const int error = probing_error(); error != 0 && chooses)
    return Error{"probing the kernel",
                 error,
                 {},
                 "raise RLIMIT_NOFILE or RLIMIT_AS, or name the mprotect backend"};
  if (const Outcome outcome = resolve_dirty(options); failed(outcome)) return outcome;
  if (options.backend != BackendId::best) {
    const char* const reason = obstacle(options.backend, options);
    return reason == nullptr ? kDone : Error{name(options.backend), ENOTSUP, {}, reason};
  }
  const char* first_reason = nullptr;
  for (const Backend& backend : backends()) {
    // null protects nothing: it is only ever chosen by name.
    if (backend.id == BackendId::null || !backend.available) continue;
    const char* const reason = obstacle(backend.id, options);
    if (reason == nullptr) {
      options.backend = backend.id;
      return kDone;
    }
    if (first_reason == nullptr) first_reason = reason;
  }
  return Error{"choice of a backend",
               ENOTSUP,
               {},
               first_reason != nullptr ? first_reason : "no backend is available"};
}

}  // namespace v0
}  // namespace pagetrap
