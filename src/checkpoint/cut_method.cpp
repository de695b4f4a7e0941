#include "checkpoint/cut_method.hpp"

#include <cerrno>

#include <pagetrap/vm/features.hpp>
#include <pagetrap/vm/freeze.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

// The userfaultfd backend for these options: with handler threads where system calls are to wait.
Result<BackendId> userfaultfd_for(FaultSet faults, const CheckpointerOptions& options) {
  const Capabilities by_thread = capabilities(BackendId::uffd_thread, Backing::anonymous);
  if (options.kernel_accesses && by_thread.kernel_accesses && by_thread.faults.covers(faults))
    return BackendId::uffd_thread;
  if (capabilities(BackendId::uffd_inline, Backing::anonymous).faults.covers(faults))
    return BackendId::uffd_inline;
  return Error{"Checkpointer", ENOTSUP, {}, "this cut needs userfaultfd: see pagetrap doctor"};
}

}  // namespace

Result<RegionOptions> region_options(Cut cut, const CheckpointerOptions& options) {
  RegionOptions made;
  made.huge_pages = options.huge_pages ? HugePages::always : HugePages::system;
  made.handler_threads = 2;
  made.on_fork = ForkPolicy::rearm;
  const bool tracks =
      options.incremental && has_feature("uffd.wp_async") && has_feature("pagemap_scan");
  if (cut == Cut::protection_key) {
    if (!protection_keys_available())
      return Error{"Checkpointer", ENOTSUP, {}, "this CPU or kernel has no protection keys"};
    // Not userfaultfd: that one resolves write faults itself where it tracks writes.
    made.backend = BackendId::mprotect;
    made.faults = FaultKind::write_protected;
    made.freezable = true;
    if (tracks) made.dirty = DirtyForm::scan;
    return made;
  }
  made.faults = cut == Cut::lift ? FaultKind::missing : FaultKind::write_protected;
  const auto backend = userfaultfd_for(made.faults, options);
  if (!backend) return backend.error();
  made.backend = *backend;
  made.kernel_accesses = *backend == BackendId::uffd_thread;
  if (cut == Cut::lift) {
    if (!has_feature("uffd.event_remap") || !has_feature("mremap_dontunmap"))
      return Error{
          "Checkpointer", ENOTSUP, {}, "the lift cut needs EVENT_REMAP and DONTUNMAP (5.7)"};
    made.liftable = true;
    if (tracks) made.dirty = DirtyForm::scan;
  }
  return made;
}

std::unique_ptr<CutMethod> make_cut_method(Cut cut, Region& region) {
  if (cut == Cut::lift) return make_lift_cut(region);
  return cut == Cut::protection_key ? make_key_cut(region) : make_write_protect_cut(region);
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
