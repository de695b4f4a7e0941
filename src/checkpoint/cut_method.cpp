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

Result<CutPlan> plan_for_key(CutPlan plan, bool kernel_tracks) {
  if (!protection_keys_available())
    return Error{"Checkpointer", ENOTSUP, {}, "this CPU or kernel has no protection keys"};
  // Not userfaultfd: that one resolves write faults itself where it tracks writes.
  plan.region.backend = BackendId::mprotect;
  plan.region.faults = FaultKind::write_protected;
  plan.region.freezable = true;
  if (kernel_tracks) plan.region.dirty = DirtyForm::scan;
  return plan;
}

}  // namespace

Result<CutPlan> plan_for(Cut cut, const CheckpointerOptions& options) {
  CutPlan plan;
  RegionOptions& made = plan.region;
  made.huge_pages = options.huge_pages ? HugePages::always : HugePages::system;
  made.handler_threads = 2;
  made.on_fork = ForkPolicy::rearm;
  const bool kernel_tracks =
      options.incremental && has_feature("uffd.wp_async") && has_feature("pagemap_scan");
  if (cut == Cut::protection_key) return plan_for_key(plan, kernel_tracks);
  made.faults = FaultKind::write_protected;
  if (cut == Cut::lift) {
    if (!has_feature("uffd.event_remap") || !has_feature("mremap_dontunmap"))
      return Error{
          "Checkpointer", ENOTSUP, {}, "the lift cut needs EVENT_REMAP and DONTUNMAP (5.7)"};
    made.faults = FaultKind::missing | FaultKind::write_protected;
    made.liftable = true;
  }
  const auto backend = userfaultfd_for(made.faults, options);
  if (!backend) return backend.error();
  made.backend = *backend;
  made.kernel_accesses = *backend == BackendId::uffd_thread;
  // Where a system call that meets a protected page would fail, none may be left protected between
  // checkpoints: the kernel tracks then, or nobody.
  plan.keeps_protected = options.incremental && made.kernel_accesses;
  if (cut == Cut::lift && kernel_tracks && !made.kernel_accesses) {
    made.faults = FaultKind::missing;
    made.dirty = DirtyForm::scan;
  }
  return plan;
}

Result<Access> CutMethod::bring_back(PageRange part) noexcept PAGETRAP_SIGNAL_SAFE {
  return Error{"bring_back", ENOTSUP, part, "this cut moves nothing away"};
}

std::unique_ptr<CutMethod> make_cut_method(Cut cut, Region& region) {
  if (cut == Cut::protection_key) return make_key_cut(region);
  if (cut == Cut::write_protect) return make_write_protect_cut(region);
  return region.dirty_form() == DirtyForm::scan ? make_window_cut(region) : make_lift_cut(region);
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
