#include <pagetrap/gc/heap.hpp>

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>

#include <pagetrap/core/signal_safe_text.hpp>

#include "gc/collector.hpp"
#include "gc/flip.hpp"
#include "gc/fork.hpp"
#include "gc/heap_state.hpp"
#include "gc/stop.hpp"
#include "gc/trap.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/no_signals.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace {

constexpr std::size_t kMostRoots = std::size_t{1} << 26;
// A page is queued once for each time that objects of it are marked: at most for each of them.
constexpr std::size_t kMostQueued = kPageBytes / 16;
constexpr std::size_t kMostDestructors = std::size_t{1} << 32;

Outcome check(const Options& options) {
  if (page_size() != kPageBytes)
    return Error{"gc::Heap", ENOTSUP, {}, "pages of another size than 4 KiB"};
  if (options.nursery_bytes < 64_KiB)
    return Error{"gc::Options.nursery_bytes", EINVAL, {}, "at least 64 KiB"};
  if (options.limit_bytes < 2 * options.nursery_bytes || options.limit_bytes > 512_GiB)
    return Error{"gc::Options.limit_bytes", EINVAL, {}, "between two nurseries and 512 GiB"};
  if (!(options.growth >= 0.1)) return Error{"gc::Options.growth", EINVAL, {}, "at least 0.1"};
  if (!(options.nursery_growth >= 0))
    return Error{"gc::Options.nursery_growth", EINVAL, {}, "0 or more"};
  return kDone;
}

Outcome make_lists(HeapState& heap) {
  const Spaces& spaces = heap.spaces;
  const std::size_t supplied = spaces.large.end;
  for (const Outcome& outcome :
       {heap.old_pages.create(spaces.old), heap.leaf_pages.create(spaces.leaf),
        heap.queue.create(kMostQueued * supplied), heap.marks.create(spaces.large_leaf.begin),
        heap.remembered[0].create(supplied), heap.remembered[1].create(supplied),
        heap.pinned.create(spaces.nursery.end), heap.new_large.create(spaces.large.size()),
        heap.nursery_free.create(spaces.nursery.size()), heap.roots.create(kMostRoots),
        heap.weaks.create(kMostRoots), heap.to_destroy.create(kMostDestructors),
        heap.dying.create(kMostDestructors)})
    if (failed(outcome)) return outcome;
  heap.nursery_wild = spaces.nursery.begin;
  heap.nursery_budget = heap.options.nursery_bytes / kPageBytes;
  heap.large.create(spaces.large);
  heap.large_leaf.create(spaces.large_leaf);
  return kDone;
}

Outcome prepare_collectors(HeapState& heap) {
  heap.collector.heap = &heap;
  heap.collector.attached = false;
  if (!heap.spaces.supplier().closes()) heap.options.collectors = 1;  // whose work is in the flip
  if (heap.options.collectors == 0 || !heap.spaces.supplier().closes()) return kDone;
  for (unsigned i = 1; i < heap.options.collectors; ++i) {
    heap.assistants.push_back(std::make_unique<Thread>());
    heap.assistants.back()->heap = &heap;
    heap.assistants.back()->attached = false;
  }
  return start_collectors(heap);
}

}  // namespace

void give_up(const char* what, int error) noexcept PAGETRAP_SIGNAL_SAFE {
  SignalSafeText line;
  line.text("pagetrap: gc: ").text(what).text(" (errno ").decimal(error).text(")\n");
  sys::write_all(STDERR_FILENO, line.view().data(), line.view().size());
  ::abort();
}

OutOfMemory::OutOfMemory(std::size_t wanted, std::size_t used, std::size_t limit)
    : words_("gc::Heap: no room for " + std::to_string(wanted) + " bytes: " + std::to_string(used) +
             " of " + std::to_string(limit) + " are in use (Options::limit_bytes)") {}

Result<Heap> Heap::create(const Options& options) {
  if (const Outcome outcome = check(options); failed(outcome)) return outcome;
  auto state = std::make_unique<HeapState>();
  state->options = options;
  const auto signal = prepare_stop_signal(options.stop_signal);
  if (!signal) return signal.error();
  state->options.stop_signal = *signal;
  const auto supply = Twin::supply_for(options.barriers, options.supply);
  if (!supply) return supply.error();
  if (const Outcome outcome =
          state->spaces.create(options.limit_bytes, options.nursery_bytes, *supply);
      failed(outcome))
    return outcome;
  if (const Outcome outcome = state->twin.create(*state); failed(outcome)) return outcome;
  if (const Outcome outcome = make_lists(*state); failed(outcome)) return outcome;
  if (const Outcome outcome = state->spaces.supplier().on_trap(on_trap, state.get());
      failed(outcome))
    return outcome;
  if (const Outcome outcome = handle_forks(); failed(outcome)) return outcome;
  if (const Outcome outcome = prepare_collectors(*state); failed(outcome)) return outcome;
  add_to_fork_list(*state);
  return Heap(std::move(state));
}

Heap::Heap(std::unique_ptr<HeapState> state) noexcept : state_(state.release()) {}

Heap::Heap(Heap&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}

Heap::~Heap() {
  if (state_ == nullptr) return;
  std::unique_ptr<HeapState> state(state_);
  remove_from_fork_list(*state);
  // Nothing of it can be looked at: it stays.
  if (state->closed.load()) {
    static_cast<void>(state.release());
    return;
  }
  wait_for_end(*state, this_gc_thread(*state));
  end_collectors(*state);
  const Critical critical(this_gc_thread());
  const DestructorCards cards(state->twin);
  // Destructors look at their objects, whose pages may be closed.
  void* const before = std::exchange(sys::this_thread().collected, &state->collector);
  for (std::size_t i = 0; i < state->to_destroy.size(); ++i) {
    auto* const object = reinterpret_cast<std::byte*>(state->to_destroy.at(i));
    const detail::Header header(
        *reinterpret_cast<const std::uint64_t*>(object - detail::Header::kBytes));
    header.type().destroy(object);
  }
  sys::this_thread().collected = before;
}

void Heap::collect(bool full) {
  check_usable(*state_);
  Thread* const thread = this_gc_thread(*state_);
  if (const Outcome outcome = gc::collect(*state_, thread, full); failed(outcome))
    throw SystemError(outcome);
}

Statistics Heap::statistics() const {
  const std::lock_guard guard(state_->statistics_lock);
  Statistics now = state_->statistics;
  now.used_bytes = state_->used_pages() * kPageBytes;
  return now;
}

PageSupply Heap::supply() const noexcept { return state_->spaces.supplier().id(); }

Mutator::Mutator(Heap& heap) : outer_(detail::allocation) {
  // Until this heap is left the outer one's flips look here.
  if (Thread* const outer = this_gc_thread(); outer != nullptr) {
    lock_threads(*outer->heap, outer);
    const std::lock_guard threads(outer->heap->threads_lock, std::adopt_lock);
    outer_ = detail::allocation;
    outer_barriers_ = detail::barriers;
    outer->allocation = &outer_;
    outer->barriers = &outer_barriers_;
  }
  thread_ = attach_thread(*heap.state_);
}

Mutator::~Mutator() {
  detach_thread(thread_);
  Thread* const outer = this_gc_thread();
  if (outer == nullptr) {
    detail::allocation = outer_;
    detail::barriers = outer_barriers_;
    return;
  }
  lock_threads(*outer->heap, outer);
  const std::lock_guard threads(outer->heap->threads_lock, std::adopt_lock);
  detail::allocation = outer_;
  detail::barriers = outer_barriers_;
  outer->allocation = &detail::allocation;
  outer->barriers = &detail::barriers;
}

void Mutator::run_blocking(void (*work)(void* self), void* self) {
  gc::run_blocking(*thread_, work, self);
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
