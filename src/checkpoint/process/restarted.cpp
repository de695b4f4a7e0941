// RestartedProcess: a child, traced until it is the process of an image.
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <sstream>

#include <pagetrap/checkpoint/process.hpp>

#include "checkpoint/generations.hpp"
#include "checkpoint/process/kernel_pages.hpp"
#include "checkpoint/process/new_process.hpp"
#include "checkpoint/process/rebirth.hpp"
#include "checkpoint/process/same_machine.hpp"
#include "checkpoint/process/stored_process.hpp"
#include "checkpoint/process/supply.hpp"
#include "checkpoint/process/tracee.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/time_slice.hpp"
#include "sys/userfaultfd.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

using namespace process;

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kDeadline{60};  // for a step of the child's

}  // namespace

struct RestartedProcess::State {
  std::unique_ptr<StoredProcess> stored;
  RestartMode mode = RestartMode::eager;
  NewProcess born;
  LeadingVdso vdso;
  std::unique_ptr<LazySupply> supply;
  double first_instruction_us = 0;

  Result<Done> start(const RestartOptions& options, std::vector<std::string>& refusals);
  Result<Done> choose_mode(RestartMode wanted);
  Result<Done> raise(RebirthPlan& plan, const RestartOptions& options,
                     std::vector<std::string>& refusals);
  Result<Done> give_memory(const RebirthPlan& plan, const ListPlace& place, unsigned threads);
  Result<std::vector<pid_t>> wait_for_threads(std::vector<std::string>& refusals);
  Result<Done> leave_area(const RebirthPlan& plan);
  Result<Done> let_go(const RebirthPlan& plan, const std::vector<pid_t>& threads);
  Result<Done> check_mapped();
  void shorten_files();
  void abandon();
  std::vector<std::string> notices;
};

Result<Done> RestartedProcess::State::choose_mode(RestartMode wanted) {
  const bool lazy_is_possible =
      static_cast<bool>(sys::open_userfaultfd(UFFD_FEATURE_EVENT_FORK, true, true)) &&
      ::getuid() == 0;
  mode = wanted;
  if (wanted == RestartMode::automatic)
    mode = lazy_is_possible ? RestartMode::lazy
                            : (is_mappable(*stored) ? RestartMode::mapped : RestartMode::eager);
  if (mode == RestartMode::lazy && !lazy_is_possible)
    return Error{"a lazy restart",
                 ENOTSUP,
                 {},
                 "faults inside system calls are for root; mapped and eager are for everybody"};
  if (mode == RestartMode::mapped && !is_mappable(*stored))
    return Error{"a mapped restart", ENOTSUP, {}, "the image is compressed: lazy or eager"};
  return Done{};
}

Result<Done> RestartedProcess::State::give_memory(const RebirthPlan& plan, const ListPlace& place,
                                                  unsigned threads) {
  const Record& record = stored->record();
  Runs plain = plain_runs(record);
  if (mode == RestartMode::lazy) {
    Call call;
    const std::uint64_t at = place.list + place.userfaultfd_call * sizeof(Call);
    if (auto got = read_memory(born.id, at, std::as_writable_bytes(std::span(&call, 1))); !got)
      return got;
    const sys::Descriptor pidfd(static_cast<int>(::syscall(SYS_pidfd_open, born.id, 0)));
    if (!pidfd.valid()) return Error{"pidfd_open", errno};
    auto taken = take_descriptor(pidfd.get(), static_cast<int>(call.result));
    if (!taken) return taken.error();
    auto serving = LazySupply::start(*stored, born.id, std::move(*taken), std::move(plain));
    if (!serving) return serving.error();
    supply = std::move(*serving);
    plain.clear();
  }
  if (!vdso.bytes.empty())
    if (auto put = force_memory(born.id, vdso.place.start, vdso.bytes); !put) return put;
  Runs mapped;
  for (const MappedPages& each : plan.mapped) mapped.push_back({each.start, each.end});
  return fill(*stored, born.id, subtract(plain, mapped), own_runs(record), threads);
}

// Runs the first thread to its next breakpoint, and the threads that it makes to theirs.
Result<std::vector<pid_t>> RestartedProcess::State::wait_for_threads(
    std::vector<std::string>& refusals) {
  std::vector<pid_t> threads{born.id};
  const auto deadline = Clock::now() + kDeadline;
  for (std::size_t i = 0; i < threads.size(); ++i) {
    for (;;) {
      const auto status = wait_for_stop(threads[i], deadline);
      if (!status) return born.failure(status.error(), refusals);
      const int event = *status >> 16;
      if (event == PTRACE_EVENT_CLONE) {
        unsigned long child = 0;
        if (::ptrace(PTRACE_GETEVENTMSG, threads[i], nullptr, &child) != 0)
          return Error{"PTRACE_GETEVENTMSG", errno};
        threads.push_back(static_cast<pid_t>(child));
      } else if (event == 0 && WSTOPSIG(*status) == SIGTRAP) {
        break;
      } else if (event == 0) {
        return Error{"restart", EFAULT, {}, "the new process was hit by a signal"};
      }
      if (::ptrace(PTRACE_CONT, threads[i], nullptr, nullptr) != 0)
        return Error{"PTRACE_CONT", errno};
    }
    if (auto reached = born.reached_stop(threads[i], refusals); !reached) return reached.error();
  }
  return threads;
}

// What was written after the checkpoint is going to be written again.
void RestartedProcess::State::shorten_files() {
  for (const OpenFile& file : stored->record().files) {
    if (file.kind != FileKind::regular || (file.flags & O_ACCMODE) == O_RDONLY) continue;
    struct stat now {};
    const std::uint64_t size = file.file.size;
    if (::stat(file.file.path.c_str(), &now) != 0 ||
        static_cast<std::uint64_t>(now.st_size) <= size)
      continue;
    const bool done = ::truncate(file.file.path.c_str(), static_cast<off_t>(size)) == 0;
    notices.push_back(file.file.path + ": " + (done ? "shortened from " : "not shortened from ") +
                      std::to_string(now.st_size) + " to " + std::to_string(size) +
                      " bytes, what it had at the checkpoint" +
                      (done ? std::string() : std::string(": ") + std::strerror(errno)));
  }
}

// No thread needs it any more: what they do next is the process's own.
Result<Done> RestartedProcess::State::leave_area(const RebirthPlan& plan) {
  const auto instruction = find_system_call(born.id);
  if (!instruction) return instruction.error();
  Registers registers{};
  if (auto got = get_registers(born.id, registers); !got) return got;
  const std::array<std::uint64_t, 2> area{plan.area_base, plan.area_size};
  int owed = 0;
  const auto unmapped = call_in(born.id, registers, *instruction, SYS_munmap, area, owed);
  if (!unmapped) return unmapped.error();
  if (*unmapped != 0) return Error{"munmap of a restart's area", static_cast<int>(-*unmapped)};
  return Done{};
}

Result<Done> RestartedProcess::State::let_go(const RebirthPlan& plan,
                                             const std::vector<pid_t>& threads) {
  const Record& record = stored->record();
  if (threads.size() != record.threads.size())
    return Error{"restart", EAGAIN, {}, "not all threads came to be"};
  if (auto left = leave_area(plan); !left) return left;
  for (std::size_t i = 0; i < threads.size(); ++i) {
    const Thread& thread = record.threads[i];
    Registers registers{};
    if (thread.registers.size() != sizeof registers)
      return Error{"restart", EBADMSG, {}, "registers of another size"};
    std::memcpy(&registers, thread.registers.data(), sizeof registers);
    if (auto set = set_registers(threads[i], registers); !set) return set;
    if (auto set = set_extended(threads[i], thread.extended); !set) return set;
    if (auto set = set_mask(threads[i], thread.mask); !set) return set;
  }
  shorten_files();
  for (const pid_t thread : threads)
    if (::ptrace(PTRACE_DETACH, thread, nullptr, nullptr) != 0)
      return Error{"PTRACE_DETACH", errno};
  return Done{};
}

Result<Done> RestartedProcess::State::raise(RebirthPlan& plan, const RestartOptions& options,
                                            std::vector<std::string>& refusals) {
  std::vector<std::vector<std::byte>> contents;
  for (const Object& object : stored->record().objects) {
    auto bytes = stored->contents(object);
    if (!bytes) return bytes.error();
    contents.push_back(std::move(*bytes));
  }
  const auto child = [&](int words) { become(plan, contents, {words}); };
  auto begun = NewProcess::begin(static_cast<pid_t>(stored->record().id), plan, child, refusals);
  if (!begun) return begun.error();
  born = std::move(*begun);
  const auto place = born.wait_until_ready(refusals);
  if (!place) return place.error();
  if (auto reached = wait_for_threads(refusals); !reached) return reached.error();
  if (auto given = give_memory(plan, *place, options.threads); !given) return given;
  if (::ptrace(PTRACE_CONT, born.id, nullptr, nullptr) != 0) return Error{"PTRACE_CONT", errno};
  const auto threads = wait_for_threads(refusals);
  if (!threads) return threads.error();
  if (options.before_it_goes_on) options.before_it_goes_on(stored->record().socket);
  return let_go(plan, *threads);
}

void RestartedProcess::State::abandon() {
  supply.reset();
  born.kill();
}

Result<Done> RestartedProcess::State::start(const RestartOptions& options,
                                            std::vector<std::string>& refusals) {
  const std::uint64_t started = sys::monotonic_nanoseconds();
  Refusals found;
  const Record& record = stored->record();
  if (auto looked = look_for_differences(record, options.any_files, found); !looked) return looked;
  RebirthPlan plan;
  plan.record = &record;
  if (auto chosen = choose_mode(options.mode); !chosen) return chosen;
  plan.lazy = mode == RestartMode::lazy;
  if (mode == RestartMode::mapped) {
    plan.mapped = mappable_pages(*stored);
    for (std::uint32_t i = 0; i < stored->chain().images(); ++i)
      plan.image_files.push_back(stored->chain().descriptor(i));
  }
  if (auto places = find_places(plan); !places) return places;
  if (options.other_kernel || !kernel_pages_fit(record)) {
    plan.kernel_pages_stay = true;
    vdso = lead_to_new_vdso(record, plan.kernel_pages, plan.kernel_place, found);
  }
  if (!found.empty()) {
    refusals = found.lines();
    return Error{"restart", ENOTSUP, {}, "something is not as it was when the image was made"};
  }
  plan.in_namespace = needs_namespace(record.threads);
  plan.drop_privileges = plan.in_namespace && ::getuid() != 0;
  auto raised = raise(plan, options, refusals);
  if (!raised) abandon();
  // RACE somebody has taken the id of a thread since they were looked at: a thread of this process,
  // too, which are made after it. In a namespace nobody does.
  if (!raised && raised.error().number == EEXIST && !plan.in_namespace) {
    refusals.clear();
    plan.in_namespace = true;
    plan.drop_privileges = ::getuid() != 0;
    raised = raise(plan, options, refusals);
    if (!raised) abandon();
  }
  if (!raised) return raised;
  first_instruction_us = static_cast<double>(sys::monotonic_nanoseconds() - started) / 1e3;
  return Done{};
}

RestartedProcess::RestartedProcess(std::unique_ptr<State> state) noexcept
    : state_(std::move(state)) {}
RestartedProcess::RestartedProcess(RestartedProcess&& other) noexcept = default;
RestartedProcess& RestartedProcess::operator=(RestartedProcess&& other) noexcept = default;
RestartedProcess::~RestartedProcess() = default;

Result<RestartedProcess> RestartedProcess::start(const std::string& path,
                                                 const RestartOptions& options,
                                                 std::vector<std::string>& refusals) {
  std::vector<std::string> candidates{path};
  struct stat what {};
  if (::stat(path.c_str(), &what) != 0) return Error{"open a checkpoint", errno};
  if (S_ISDIR(what.st_mode)) {
    const auto all = generations(path, "");
    if (!all) return all.error();
    candidates.clear();
    for (const Generation& each : *all) candidates.push_back(each.path);
  }
  Error newest{"restart", ENOENT, {}, "there is no checkpoint in this directory"};
  bool first = true;
  for (const std::string& candidate : candidates) {
    auto state = std::make_unique<State>();
    auto stored = StoredProcess::open(candidate);
    Error error = stored ? Error{} : stored.error();
    if (stored) {
      state->stored = std::move(*stored);
      const auto started = state->start(options, refusals);
      if (started) return RestartedProcess(std::move(state));
      error = started.error();
      // An older image would be refused as well, or would hide what is wrong.
      if (error.number != EBADMSG) return error;
    }
    if (first) newest = error;
    first = false;
  }
  return newest;
}

pid_t RestartedProcess::id() const noexcept { return state_->born.id; }
pid_t RestartedProcess::id_inside() const noexcept {
  return static_cast<pid_t>(state_->stored->record().id);
}
const ImageInfo& RestartedProcess::image() const noexcept { return state_->stored->chain().info(); }
RestartMode RestartedProcess::mode() const noexcept { return state_->mode; }
std::chrono::milliseconds RestartedProcess::every() const noexcept {
  return std::chrono::milliseconds(state_->stored->record().every_ms);
}
unsigned RestartedProcess::keep() const noexcept {
  return static_cast<unsigned>(state_->stored->record().keep);
}
unsigned RestartedProcess::full_every() const noexcept {
  return static_cast<unsigned>(state_->stored->record().full_every);
}
const std::string& RestartedProcess::socket() const noexcept {
  return state_->stored->record().socket;
}
double RestartedProcess::first_instruction_us() const noexcept {
  return state_->first_instruction_us;
}

// The kernel gives pages out as they are. Whether they were what they should be is known some time
// after that, but known.
Result<Done> RestartedProcess::State::check_mapped() {
  sys::give_way();
  std::vector<std::byte> pages;
  std::vector<std::byte> scratch;
  const Chain& chain = stored->chain();
  for (std::uint32_t image = 0; image < chain.images(); ++image) {
    for (std::uint64_t block = 0; block < chain.image_info(image).blocks; ++block) {
      if (::kill(born.id, 0) != 0) return Done{};  // it has ended
      const auto checked =
          chain.check_block(image, static_cast<std::uint32_t>(block), pages, scratch);
      if (checked) continue;
      ::kill(born.id, SIGKILL);
      return checked.error();
    }
  }
  return Done{};
}

Result<Done> RestartedProcess::finish() {
  if (state_->supply != nullptr) return state_->supply->finish();
  return state_->mode == RestartMode::mapped ? state_->check_mapped() : Result<Done>(Done{});
}

const std::vector<std::string>& RestartedProcess::notices() const noexcept {
  return state_->notices;
}

int RestartedProcess::wait() { return state_->born.wait(); }

Result<std::string> image_at(const std::string& directory, std::int64_t when) {
  const auto all = generations(directory, "");
  if (!all) return all.error();
  for (const Generation& each : *all) {
    const auto info = inspect(each.path);
    if (info && info->created_ns <= when) return each.path;
  }
  return Error{"restart", ENOENT, {}, "there is no image as old as that"};
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
