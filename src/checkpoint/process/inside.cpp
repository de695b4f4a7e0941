#include "checkpoint/process/inside.hpp"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <vector>

#include "checkpoint/process/census.hpp"
#include "checkpoint/process/proc_files.hpp"
#include "checkpoint/process/way_back.hpp"
#include "sys/kernel_abi.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

constexpr std::uint64_t kMaskBytes = 8;
constexpr unsigned kSignals = 64;

Error area_is_full() { return Error{"a cut", ENOBUFS, {}, "the process has too many timers"}; }

// Ends a list, puts it in the area, and returns what thread `index` has to do.
Result<StoppedProcess::Errand> errand(StoppedProcess& stopped, Area& area, std::size_t index,
                                      CallList& list, std::size_t report) {
  const std::vector<std::byte> size = way_back(stopped.threads()[index], 0);
  const std::uint64_t frame = area.reserve(size.size());
  const std::uint64_t stack = area.reserve(Area::kStackBytes);
  const std::uint64_t place = area.reserve(list.size_bytes());
  if (frame == 0 || stack == 0 || place == 0) return area_is_full();
  list[report].arguments[0] = static_cast<std::uint64_t>(stopped.report_signal());
  list[report].arguments[1] = frame + sizeof(std::uint64_t);
  for (std::size_t i = 0; i < list.size(); ++i)
    if (list[i].number >= 0 && list[i].may_fail == 0) list[i].may_fail = 2;
  const std::vector<std::byte> back = way_back(stopped.threads()[index], frame);
  if (auto put = write_memory(stopped.process(), frame, back); !put) return put.error();
  if (auto put = write_memory(stopped.process(), place, list.bytes()); !put) return put.error();
  return StoppedProcess::Errand{index, area.entry(), place, stack + Area::kStackBytes};
}

// The results of a list that was run.
Result<Done> results(const StoppedProcess& stopped, const StoppedProcess::Errand& done,
                     CallList& list) {
  return read_memory(stopped.process(), done.list, list.bytes());
}

// The first call that had to work and did not.
Result<Done> all_worked(const CallList& list, const char* what) {
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Call& call = list[i];
    if (call.number >= 0 && call.may_fail != 1 && call.result < 0 && call.result > -4096)
      return Error{what, static_cast<int>(-call.result)};
  }
  return Done{};
}

template <class T>
Result<Done> fetch(pid_t process, std::uint64_t address, T& value) {
  return read_memory(process, address,
                     std::as_writable_bytes(std::span<T, 1>(std::addressof(value), 1)));
}

}  // namespace

Result<Done> ask_inside(StoppedProcess& stopped, Area& area, Record& record) {
  area.clear();
  const pid_t process = stopped.process();
  // First the process's own thread; then for each of all what it alone knows.
  const std::uint64_t dispositions = area.reserve(kSignals * sizeof(Disposition));
  const std::uint64_t intervals = area.reserve(3 * sizeof(itimerval));
  const std::uint64_t timers = area.reserve(std::max<std::size_t>(1, record.timers.size()) * 32);
  const std::uint64_t words = area.reserve(64);
  struct Own {
    std::uint64_t clear_tid;
    std::array<std::uint64_t, 3> alternate_stack;
  };
  const std::uint64_t owns = area.reserve(record.threads.size() * sizeof(Own));
  if (dispositions == 0 || intervals == 0 || timers == 0 || words == 0 || owns == 0)
    return area_is_full();
  std::vector<CallList> lists(record.threads.size());
  for (std::size_t i = 0; i < lists.size(); ++i) {
    const std::uint64_t own = owns + i * sizeof(Own);
    lists[i].try_to(SYS_prctl, PR_GET_TID_ADDRESS, own);
    lists[i].add(SYS_sigaltstack, 0, own + offsetof(Own, alternate_stack));
  }
  CallList& first = lists.front();
  for (unsigned signal = 1; signal <= kSignals; ++signal)
    first.add(SYS_rt_sigaction, signal, 0, dispositions + (signal - 1) * sizeof(Disposition),
              kMaskBytes);
  for (unsigned which = 0; which < 3; ++which)
    first.add(SYS_getitimer, which, intervals + which * sizeof(itimerval));
  for (std::size_t i = 0; i < record.timers.size(); ++i)
    first.add(SYS_timer_gettime, record.timers[i].id, timers + i * 32);
  const std::size_t program_break = first.add(SYS_brk, 0);
  const std::size_t dumpable = first.add(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0);
  const std::size_t slack = first.add(SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0);
  const std::size_t no_huge_pages = first.try_to(SYS_prctl, PR_GET_THP_DISABLE, 0, 0, 0, 0);
  first.add(SYS_prctl, PR_GET_PDEATHSIG, words, 0, 0, 0);
  first.add(SYS_prctl, PR_GET_CHILD_SUBREAPER, words + 8, 0, 0, 0);

  std::vector<StoppedProcess::Errand> errands;
  for (std::size_t i = 0; i < lists.size(); ++i) {
    const std::size_t report = lists[i].add(kReport);
    auto made = errand(stopped, area, i, lists[i], report);
    if (!made) return made.error();
    errands.push_back(*made);
  }
  if (auto ran = stopped.run(errands); !ran) return ran;

  for (std::size_t i = 0; i < lists.size(); ++i) {
    if (auto got = results(stopped, errands[i], lists[i]); !got) return got;
    if (auto worked = all_worked(lists[i], "a question to the kernel inside the process"); !worked)
      return worked;
    Own own{};
    if (auto got = fetch(process, owns + i * sizeof(Own), own); !got) return got;
    record.threads[i].clear_tid = own.clear_tid;
    // Between the address and the size are four bytes of flags and four of nothing.
    own.alternate_stack[1] &= 0xffffffff;
    record.threads[i].alternate_stack = own.alternate_stack;
  }
  if (auto got = fetch(process, dispositions, record.dispositions); !got) return got;
  static_assert(sizeof record.interval_timers == 3 * sizeof(itimerval));
  if (auto got = fetch(process, intervals, record.interval_timers); !got) return got;
  for (std::size_t i = 0; i < record.timers.size(); ++i)
    if (auto got = fetch(process, timers + i * 32, record.timers[i].times); !got) return got;
  std::array<std::uint32_t, 4> numbers{};
  if (auto got = fetch(process, words, numbers); !got) return got;
  record.death_signal = numbers[0];
  record.subreaper = numbers[2];
  record.layout[5] = static_cast<std::uint64_t>(first[program_break].result);
  record.dumpable = static_cast<std::uint64_t>(first[dumpable].result);
  record.timer_slack = static_cast<std::uint64_t>(first[slack].result);
  record.huge_pages_off = first[no_huge_pages].result > 0 ? 1 : 0;
  return Done{};
}

namespace {

// A process has other numbers in a pid namespace than we see.
Result<pid_t> our_number_of(pid_t relative, std::int64_t inner) {
  const auto own = read_whole(proc_path(relative, "status"));
  if (!own) return own.error();
  const std::string ids = Fields(*own).word("NSpid");
  if (ids.find('\t') == std::string::npos) return static_cast<pid_t>(inner);
  const std::string space = read_link(proc_path(relative, "ns/pid"));
  const auto all = numbers_in("/proc");
  if (!all) return all.error();
  for (const int candidate : *all) {
    if (read_link(proc_path(candidate, "ns/pid")) != space) continue;
    const auto status = read_whole(proc_path(candidate, "status"));
    if (!status) continue;
    const std::string known = Fields(*status).word("NSpid");
    if (std::atoll(known.c_str() + known.rfind('\t') + 1) == inner) return candidate;
  }
  return Error{"a frozen copy", ESRCH};
}

}  // namespace

Result<pid_t> freeze_copy(StoppedProcess& stopped, Area& area) {
  area.clear();
  const std::uint64_t mask = area.reserve(kMaskBytes);
  CallList list;
  const std::uint64_t every_signal = ~std::uint64_t{0};
  if (auto put = write_memory(stopped.process(), mask, std::as_bytes(std::span(&every_signal, 1)));
      !put)
    return put.error();
  list.add(SYS_rt_sigprocmask, SIG_SETMASK, mask, 0, kMaskBytes);
  const std::size_t copy = list.add(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
  const std::size_t jump = list.add(kJumpIfZero);
  const std::uint64_t but_report = area.reserve(kMaskBytes);
  const std::uint64_t others = ~(std::uint64_t{1} << (stopped.report_signal() - 1));
  if (auto put = write_memory(stopped.process(), but_report, std::as_bytes(std::span(&others, 1)));
      !put)
    return put.error();
  list.add(SYS_rt_sigprocmask, SIG_SETMASK, but_report, 0, kMaskBytes);
  const std::size_t report = list.add(kReport);
  // The copy. Whatever fails there, its memory is what it is for.
  list[jump].arguments[0] = list.try_to(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  list.try_to(SYS_setsid);
  list.try_to(SYS_close_range, 0, ~0U, 0);
  // It lives as long as whoever traces it: us. Nobody: then we have ended in between.
  const std::uint64_t nap = area.reserve(sizeof(timespec));
  const timespec second{1, 0};
  if (auto put = write_memory(stopped.process(), nap, std::as_bytes(std::span(&second, 1))); !put)
    return put.error();
  const std::size_t rest = list.try_to(SYS_nanosleep, nap, 0);
  list.try_to(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
  const std::size_t nobody = list.add(kJumpIfZero);
  list.add(kJump, rest);
  list[nobody].arguments[0] = list.try_to(SYS_exit_group, 0);
  const auto made = errand(stopped, area, 0, list, report);
  if (!made) return made.error();
  if (auto ran = stopped.run(std::span(&*made, 1)); !ran) return ran.error();
  if (auto got = results(stopped, *made, list); !got) return got.error();
  if (auto worked = all_worked(list, "a frozen copy (clone)"); !worked) return worked.error();
  const auto id = our_number_of(stopped.process(), list[copy].result);
  if (!id) return id.error();
  if (::ptrace(PTRACE_SEIZE, *id, nullptr, reinterpret_cast<void*>(PTRACE_O_EXITKILL)) != 0)
    return Error{"PTRACE_SEIZE of a frozen copy", errno};
  return *id;
}

Result<sys::Descriptor> userfaultfd_of(StoppedProcess& stopped, Area& area, int pidfd) {
  area.clear();
  CallList list;
  const std::size_t opened =
      list.try_to(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
  auto made = errand(stopped, area, 0, list, list.add(kReport));
  if (!made) return made.error();
  if (auto ran = stopped.run(std::span(&*made, 1)); !ran) return ran.error();
  if (auto got = results(stopped, *made, list); !got) return got.error();
  const std::int64_t number = list[opened].result;
  if (number < 0) return Error{"userfaultfd in another process", static_cast<int>(-number)};
  auto ours = take_descriptor(pidfd, static_cast<int>(number));
  // It stays open here only.
  area.clear();
  CallList closing;
  closing.add(SYS_close, number);
  made = errand(stopped, area, 0, closing, closing.add(kReport));
  if (!made) return made.error();
  if (auto ran = stopped.run(std::span(&*made, 1)); !ran) return ran.error();
  return ours;
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
