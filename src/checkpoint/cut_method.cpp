#include "checkpoint/cut_method.hpp"

#include <cerrno>

#include <pagetrap/vm/features.hpp>

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
  if (cut == Cut::protection_key)
    return Error{"Checkpointer", ENOTSUP, {}, "the protection-key cut is not built yet; use lift"};
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
    if (options.incremental && has_feature("uffd.wp_async") && has_feature("pagemap_scan"))
      made.dirty = DirtyForm::scan;
  }
  return made;
}

std::unique_ptr<CutMethod> make_cut_method(Cut cut, Region& region) {
  return cut == Cut::lift ? make_lift_cut(region) : make_write_protect_cut(region);
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
