// Creation and end of regions.
#include <pagetrap/vm/region.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include <pagetrap/trace/trace.hpp>
#include <pagetrap/vm/freeze.hpp>
#include <pagetrap/vm/signals.hpp>

#include "sys/injection.hpp"
#include "sys/kernel_abi.hpp"
#include "sys/mapping.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/channel.hpp"
#include "vm/choose_backend.hpp"
#include "vm/dirty_tracker.hpp"
#include "vm/dispatch.hpp"
#include "vm/fork.hpp"
#include "vm/keys.hpp"
#include "vm/process_files.hpp"
#include "vm/region_state.hpp"
#include "vm/running.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

constexpr std::size_t kLiftAlignment = std::size_t{1} << 30;

Outcome open_backing(RegionState& state) {
  const RegionOptions& options = state.options;
  if (options.backing == Backing::anonymous) return kDone;
  if (options.backing == Backing::memfd) {
    const int error = sys::injected(sys::Call::memfd_create);
    state.file_owner =
        sys::Descriptor(error != 0 ? -1 : ::memfd_create(state.name.c_str(), MFD_CLOEXEC));
    if (!state.file_owner.valid()) return Error{"memfd_create", error != 0 ? error : errno};
    if (::ftruncate(state.file_owner.get(), static_cast<off_t>(state.range.size_bytes())) != 0)
      return Error{"ftruncate of a memfd", errno, {}, "RLIMIT_FSIZE, or larger than tmpfs allows"};
  } else {
    state.file_owner = sys::Descriptor(::fcntl(options.file, F_DUPFD_CLOEXEC, 0));
    if (!state.file_owner.valid()) return Error{"dup of RegionOptions.file", errno};
    state.memory_offset = static_cast<std::uint64_t>(options.file_offset);
  }
  state.memory_file = state.file_owner.get();
  return kDone;
}

Outcome map_memory(RegionState& state) {
  const RegionOptions& options = state.options;
  if (const Outcome outcome = open_backing(state); failed(outcome)) return outcome;
  sys::Mapping::Request request;
  request.size_bytes = state.range.size_bytes();
  request.prot = PROT_READ | PROT_WRITE;
  request.flags =
      MAP_NORESERVE | (state.memory_file >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
  request.descriptor = state.memory_file;
  request.offset = state.memory_offset;
  request.address = options.address;
  request.alignment =
      options.liftable && options.alignment < kLiftAlignment ? kLiftAlignment : options.alignment;
  auto mapping = sys::Mapping::create(request);
  if (!mapping) {
    Error error = mapping.error();
    if (error.number == EEXIST)
      error.remedy = "something is mapped at RegionOptions.address already";
    return error;
  }
  state.range = mapping->release();
  state.owns_memory = true;
  if (options.liftable && reinterpret_cast<std::uintptr_t>(state.range.base) % kLiftAlignment != 0)
    return Error{"RegionOptions.address", EINVAL, state.range, "liftable needs 1 GiB alignment"};
  return kDone;
}

Outcome advise_mapping(RegionState& state) {
  const RegionOptions& options = state.options;
  if (state.memory_file < 0) sys::name_mapping(state.range, state.name.c_str());
  // Best effort by nature: a kernel without huge pages has nothing to switch.
  if (options.huge_pages == HugePages::always) sys::advise(state.range, MADV_HUGEPAGE);
  if (options.huge_pages == HugePages::never) sys::advise(state.range, MADV_NOHUGEPAGE);
  if (options.on_fork == ForkPolicy::absent) {
    if (const int error = sys::advise(state.range, MADV_DONTFORK))
      return Error{"MADV_DONTFORK", error, state.range};
  }
  return kDone;
}

PageState initial_state(const RegionState& state) {
  if (!state.owns_memory) return PageState::read_write;
  if (state.wants(FaultKind::missing)) return PageState::missing;
  return state.wants(FaultKind::minor) ? PageState::evicted : PageState::read_write;
}

// Tracking of a region whose backend is not userfaultfd has a channel of its own.
Outcome attach_tracking_channel(RegionState& state) {
  if (state.uffd >= 0) return kDone;
  Channel::Needs needs;
  needs.features =
      UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC;
  if (state.options.backing != Backing::anonymous)
    needs.features |= UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
  auto channel = Channel::get(needs);
  if (!channel) return channel.error();
  state.channel = std::move(*channel);
  state.uffd = state.channel->uffd();
  state.uffd_mode = UFFDIO_REGISTER_MODE_WP;
  if (const int error = sys::uffd_register(state.uffd, state.range, state.uffd_mode))
    return Error{"UFFDIO_REGISTER", error, state.range};
  state.registered = true;
  return kDone;
}

Result<std::unique_ptr<DirtyTracker>> make_tracker(const RegionState& state) {
  if (state.dirty_form == DirtyForm::traps) return make_trap_tracker(state.range);
  if (state.dirty_form == DirtyForm::ring) return make_ring_tracker();
  return make_scan_tracker();
}

Outcome attach_tracker(RegionState& state) {
  if (state.dirty_form == DirtyForm::none) return kDone;
  if (state.dirty_form != DirtyForm::traps) {
    if (const Outcome outcome = attach_tracking_channel(state); failed(outcome)) return outcome;
  }
  auto tracker = make_tracker(state);
  if (!tracker) return tracker.error();
  state.tracker_owner = std::move(*tracker);
  state.tracker = state.tracker_owner.get();
  return state.tracker->begin(state);
}

Outcome attach_all(RegionState& state) {
  auto pages = PageStates::create(state.range, initial_state(state));
  if (!pages) return pages.error();
  state.pages = std::move(*pages);
  const BackendId backend = state.options.backend;
  if (state.options.freezable && backend != BackendId::pkey && backend != BackendId::null &&
      protection_keys_available()) {
    // All 15 keys in use: freeze() falls back to page protection, as on CPUs without keys.
    if (const Outcome outcome = attach_key(state); failed(outcome) && outcome.number != ENOSPC)
      return outcome;
  }
  if (const Outcome outcome = state.operations.attach(state); failed(outcome)) return outcome;
  if (const Outcome outcome = attach_tracker(state); failed(outcome)) return outcome;
  return kDone;
}

void tear_down(RegionState& state) noexcept {
  state.tracker = nullptr;
  state.tracker_owner.reset();
  if (state.absent_in_child) {
    // Nothing is mapped here, and what another thread mapped since is not ours.
    release_state(&state);
    return;
  }
  if (!state.owns_memory) remove_guards(state);
  forget_guards(state);
  detach_key(state);
  // Threads that sleep on a page of ours find no memory there when they wake; before it is
  // unmapped, since unmapping does not wake them.
  if (state.owns_memory && state.options.backend == BackendId::uffd_thread && state.uffd >= 0) {
    sys::change_protection(state.range, PROT_NONE);
    sys::uffd_wake(state.uffd, state.range);
  }
  if (state.operations.detach != nullptr) {
    state.operations.detach(state);
    const bool tracking_only =
        !state.owns_memory && state.registered && !is_userfaultfd(state.operations.id);
    if (tracking_only) sys::uffd_unregister(state.uffd, state.range);
  }
  if (state.owns_memory) ::munmap(state.range.base, state.range.size_bytes());
  release_state(&state);
}

Result<Region> finish_creation(RegionState* state, Outcome outcome) {
  if (!failed(outcome)) outcome = attach_all(*state);
  state->special = state->liftable || state->tracker != nullptr || state->key >= 0 ||
                   state->options.freezable || !state->owns_memory ||
                   state->operations.id == BackendId::uffd_thread;
  if (!failed(outcome) && !register_region(state))
    outcome = Error{"Region::create", ERANGE, state->range, "beyond 48 bits of address"};
  if (failed(outcome)) {
    tear_down(*state);
    return outcome;
  }
  trace::record(trace::Kind::region, state->range.base, state->range.length.count() << 8);
  return RegionState::make_region(state);
}

Outcome prepare_process(const RegionOptions& options) {
  if (const auto forks = prepare_for_forks(); !forks) return forks.error();
  // What is found out once: not in the middle of a fork() by another thread.
  static_cast<void>(freeze_signal());
  static_cast<void>(protection_keys_available());
  if (options.backend == BackendId::null) return kDone;
  if (const auto handlers = install_signal_handlers(); !handlers) return handlers.error();
  return kDone;
}

RegionState* new_state(PageRange range, const RegionOptions& options) {
  RegionState* const state = acquire_state();
  state->range = range;
  state->options = options;
  state->name = std::string(options.name != nullptr ? options.name : "pagetrap").substr(0, 64);
  state->options.name = state->name.c_str();
  state->dirty_form = options.dirty;
  state->faults = options.faults;
  state->liftable = options.liftable;
  state->operations = operations_of(options.backend);
  return state;
}

}  // namespace

Result<Region> Region::create(std::size_t size_bytes, const RegionOptions& asked) {
  RegionOptions options = asked;
  if (size_bytes == 0) return Error{"Region::create", EINVAL, {}, "the size is 0"};
  if (size_bytes > (std::size_t{1} << 47))
    return Error{"Region::create", ENOMEM, {}, "larger than the address space of a process"};
  open_process_files();
  if (const Outcome outcome = resolve_options(options); failed(outcome)) return outcome;
  if (const Outcome outcome = prepare_process(options); failed(outcome)) return outcome;
  RegionState* const state = new_state({nullptr, pages_for(size_bytes)}, options);
  Outcome outcome = map_memory(*state);
  if (!failed(outcome)) outcome = advise_mapping(*state);
  return finish_creation(state, outcome);
}

Result<Region> Region::adopt(PageRange range, const RegionOptions& asked) {
  RegionOptions options = asked;
  if (range.empty() || page_of(range.base).base != range.base)
    return Error{"Region::adopt", EINVAL, range, "the range must be whole pages"};
  if (options.backing == Backing::file && options.file < 0) options.file = STDIN_FILENO;
  open_process_files();
  if (const Outcome outcome = resolve_options(options); failed(outcome)) return outcome;
  if (options.liftable)
    return Error{"Region::adopt", ENOTSUP, range, "only memory of the library's own can be lifted"};
  if (const Outcome outcome = prepare_process(options); failed(outcome)) return outcome;
  RegionState* const state = new_state(range, options);
  if (overlaps_region(range)) {
    release_state(state);
    return Error{"Region::adopt", EEXIST, range, "part of the range is in a region already"};
  }
  return finish_creation(state, advise_mapping(*state));
}

Region::~Region() { end(); }

Region::Region(Region&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}

Region& Region::operator=(Region&& other) noexcept {
  if (this != &other) {
    end();
    state_ = std::exchange(other.state_, nullptr);
  }
  return *this;
}

void Region::end() noexcept {
  if (state_ == nullptr) return;
  RegionState* const state = state_;
  trace::record(trace::Kind::region, state->range.base, state->range.length.count() << 8 | 1);
  static_cast<void>(thaw());  // nobody may sleep on a region that ends
  unregister_region(state);
  wait_for_handlers(*state);
  state_ = nullptr;  // only now: a handler may have been using this very object
  tear_down(*state);
}

}  // namespace v0
}  // namespace pagetrap
