// What happens when a system call touches protected memory: predicted, then tried.
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <string>
#include <vector>

#include <pagetrap/vm/vm.hpp>

#include "../measure/contained.hpp"
#include "../measure/measured.hpp"
#include "examination.hpp"

namespace pagetrap::tool {
namespace {

enum class Direction { read_into, write_from };

/// What a child observed. Crosses processes as bytes.
struct Observation {
  CallOutcome predicted = CallOutcome::failed;
  CallOutcome outcome = CallOutcome::failed;
  bool dirty_by_traps = false;
  FixedText<256> problem;
};

struct Served {
  bool whole_region = false;
  std::atomic<int> faults{0};
};

Verdict open_page(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  auto& served = *static_cast<Served*>(self);
  served.faults.fetch_add(1, std::memory_order_relaxed);
  const auto done =
      fault.region->unprotect(served.whole_region ? fault.region->range() : fault.page);
  return done ? Verdict::resolved : Verdict::not_mine;
}

/// read(2) of a few bytes to `address`, or write(2) of them; errno, or 0.
int call_kernel(Direction direction, std::byte* address) {
  constexpr std::size_t kBytes = 16;
  std::array<int, 2> pipe_ends{};
  if (pipe2(pipe_ends.data(), O_CLOEXEC) != 0) return errno;
  const std::array<char, kBytes> words{};
  ssize_t moved = 0;
  if (direction == Direction::read_into) {
    moved = write(pipe_ends[1], words.data(), words.size());
    if (moved > 0) moved = read(pipe_ends[0], address, words.size());
  } else {
    moved = write(pipe_ends[1], address, words.size());
  }
  const int error = moved == static_cast<ssize_t>(kBytes) ? 0 : moved < 0 ? errno : EIO;
  close(pipe_ends[0]);
  close(pipe_ends[1]);
  return error;
}

void judge(int error, bool seen, Observation& observation) {
  if (error == EFAULT) {
    observation.outcome = CallOutcome::efault;
  } else if (error == 0) {
    observation.outcome = seen ? CallOutcome::served : CallOutcome::bypassed;
  } else {
    observation.problem.set(std::string("the call failed with ") + strerrorname_np(error));
  }
}

void try_backend(BackendId id, Direction direction, Observation& observation) {
  const Capabilities can = capabilities(id, Backing::anonymous);
  const bool read_into = direction == Direction::read_into;
  auto region = Region::create(4 * page_size(), {.faults = read_into ? FaultKind::write_protected
                                                                     : FaultKind::no_access,
                                                 .kernel_accesses = can.kernel_accesses,
                                                 .backend = id,
                                                 .huge_pages = HugePages::never})
                    .value();
  Served served;
  served.whole_region = !can.per_page;
  for (std::size_t at = 0; at < region.size_bytes(); at += page_size()) {
    *reinterpret_cast<volatile char*>(region.data() + at) = 1;
  }
  region.on_fault(open_page, &served).value();
  region
      .protect(can.per_page ? page_of(region.data()) : region.range(),
               read_into ? Access::read : Access::none)
      .value();
  const int error = call_kernel(direction, region.data());
  judge(error, served.faults.load() > 0, observation);
}

void try_dirty(Observation& observation) {
  auto region = Region::create(4 * page_size(), {.dirty = DirtyForm::best}).value();
  // Writes that the kernel itself finds are found whoever writes; traps are as good as their
  // backend.
  observation.dirty_by_traps = region.dirty_form() == DirtyForm::traps;
  const bool served = !observation.dirty_by_traps || region.can().kernel_accesses;
  observation.predicted = served ? CallOutcome::served : CallOutcome::efault;
  if (observation.dirty_by_traps && region.backend() == BackendId::null) {
    observation.predicted = CallOutcome::bypassed;  // PAGETRAP_BACKEND=null: nothing traps
  }
  *reinterpret_cast<volatile char*>(region.data()) = 1;
  std::vector<PageRange> found;
  region.dirty(region.range(), found).value();
  found.clear();
  const int error = call_kernel(Direction::read_into, region.data());
  const bool seen = region.dirty(region.range(), found).value() == Pages{1};
  judge(error, seen, observation);
}

template <class Try>
Observation observe(Try attempt, CallTrial& trial) {
  constexpr unsigned kSeconds = 3;  // a call that nobody serves waits for ever
  auto result = contained<Observation>(kSeconds, [&](Observation& observation) {
    try {
      attempt(observation);
    } catch (const std::exception& error) {
      observation.problem.set(words_of(error));
    }
  });
  trial.observed = result.answer.outcome;
  trial.problem = result.answer.problem.view();
  if (!result.failure.empty()) {
    trial.observed = CallOutcome::failed;
    trial.problem = result.failure;
  }
  return result.answer;
}

}  // namespace

const char* call_outcome_name(CallOutcome outcome) noexcept {
  switch (outcome) {
    case CallOutcome::served:
      return "served";
    case CallOutcome::efault:
      return "EFAULT";
    case CallOutcome::bypassed:
      return "bypassed";
    case CallOutcome::failed:
      return "failed";
  }
  return "?";
}

std::vector<CallTrial> examine_calls() {
  std::vector<CallTrial> trials;
  for (const Backend& backend : backends()) {
    // The null backend protects nothing, so there is nothing to ask.
    if (!backend.available || backend.id == BackendId::null) continue;
    const Capabilities can = capabilities(backend.id, Backing::anonymous);
    const CallOutcome predicted = can.kernel_accesses ? CallOutcome::served : CallOutcome::efault;
    struct Way {
      FaultKind kind;
      Direction direction;
      const char* access;
    };
    for (const Way& way :
         {Way{FaultKind::write_protected, Direction::read_into, "read(2) into a read-only page"},
          Way{FaultKind::no_access, Direction::write_from,
              "write(2) from a page without access"}}) {
      if (!can.faults.has(way.kind)) continue;
      CallTrial trial{backend.name, way.access, predicted, CallOutcome::failed, {}};
      observe([&](Observation& out) { try_backend(backend.id, way.direction, out); }, trial);
      trials.push_back(trial);
    }
  }
  CallTrial dirty{{}, "read(2) into a clean page", {}, CallOutcome::failed, {}};
  const Observation seen = observe([](Observation& out) { try_dirty(out); }, dirty);
  dirty.subject = seen.dirty_by_traps ? "DIRTY by traps" : "DIRTY by scan";
  dirty.predicted = seen.predicted;
  trials.push_back(dirty);
  return trials;
}

}  // namespace pagetrap::tool
