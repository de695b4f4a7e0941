#include "checkpoint/process/rebirth.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <string>

#include "checkpoint/process/calls.hpp"
#include "checkpoint/process/kernel_pages.hpp"
#include "checkpoint/process/proc_files.hpp"
#include "sys/kernel_abi.hpp"
#include "sys/thread_pointer.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

constexpr std::uint64_t kLowest = 0x10000;          // vm.mmap_min_addr
constexpr std::uint64_t kHighest = 0x7ffffffff000;  // TASK_SIZE of x86-64
constexpr std::uint64_t kMaskBytes = 8;
constexpr std::uint64_t kMostTimerId = 4096;
constexpr int kRestoreTimerIds = 77;  // PR_TIMER_CREATE_RESTORE_IDS, 6.16
constexpr int kUnregister = 1;        // RSEQ_FLAG_UNREGISTER
constexpr int kTroubled = 3;  // the exit code of a child that could not become what it should

// clone3(2); SOURCE linux/sched.h
struct CloneArguments {
  std::uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
      set_tid_size, cgroup;
};

// sigevent, as the kernel has it.
struct SignalEvent {
  std::uint64_t value;
  std::int32_t signal;
  std::int32_t notify;
  std::int32_t thread;
  std::array<std::int32_t, 11> rest;
};
static_assert(sizeof(SignalEvent) == 64);

bool is_filled_in(const Mapping& mapping) {
  return mapping.kind == MappingKind::anonymous || mapping.kind == MappingKind::stack ||
         mapping.kind == MappingKind::file_contents;
}

/// Puts values in the area and says where they are. It is mapped in the child already.
class Desk {
 public:
  explicit Desk(Area& area) : area_(area) {}
  std::uint64_t put(const void* bytes, std::size_t count) {
    const std::uint64_t at = area_.reserve(count);
    if (at == 0) throw Trouble("restart: too much for its area", ENOBUFS);
    std::memcpy(reinterpret_cast<void*>(at), bytes, count);
    return at;
  }
  template <class T>
  std::uint64_t put(const T& value) {
    return put(&value, sizeof value);
  }
  std::uint64_t put(const std::string& text) { return put(text.c_str(), text.size() + 1); }
  std::uint64_t put(const std::vector<std::byte>& bytes) { return put(bytes.data(), bytes.size()); }
  std::uint64_t put(const CallList& list) { return put(list.bytes().data(), list.size_bytes()); }
  std::uint64_t stack() { return room(Area::kStackBytes) + Area::kStackBytes; }
  std::uint64_t room(std::uint64_t bytes) {
    const std::uint64_t at = area_.reserve(bytes);
    if (at == 0) throw Trouble("restart: too much for its area", ENOBUFS);
    return at;
  }

 private:
  Area& area_;
};

class Rebirth {
 public:
  Rebirth(RebirthPlan& plan, const HighFiles& high, Desk& desk)
      : plan_(plan), record_(*plan.record), high_(high), desk_(desk) {}

  CallList list() {
    leave_old_life();
    clear_addresses();
    for (std::size_t i = 0; i < record_.mappings.size(); ++i) map(i);
    for (const MappedPages& pages : plan_.mapped) map_image(pages);
    for (const auto& [number, seals] : high_.seals)
      list_.add(SYS_fcntl, number, F_ADD_SEALS, seals);
    if (!plan_.kernel_pages_stay)
      place_kernel_pages(record_, plan_.kernel_pages, plan_.kernel_place, list_);
    std::size_t opened = 0;
    if (plan_.lazy) opened = list_.add(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    userfaultfd_index_ = opened;
    list_.add(kStop);
    protect();
    describe_memory();
    set_dispositions();
    set_limits_and_options();
    list_.try_to(SYS_close_range, high_.first, ~0U, 0);
    for (std::size_t i = 1; i < record_.threads.size(); ++i) begin_thread(i);
    set_timers();
    for (const auto& pending : record_.pending)
      list_.try_to(SYS_rt_sigqueueinfo, record_.id, signal_in(pending), desk_.put(pending));
    become_thread(record_.threads.front(), list_);
    list_.add(kStop);
    return std::move(list_);
  }
  [[nodiscard]] std::size_t userfaultfd_index() const noexcept { return userfaultfd_index_; }

 private:
  static std::int32_t signal_in(const std::vector<std::byte>& info) {
    std::int32_t signal = 0;
    std::memcpy(&signal, info.data(), std::min(info.size(), sizeof signal));
    return signal;
  }

  // Nothing of the kernel's refers to memory that is about to go.
  void leave_old_life() {
    if (__rseq_size != 0)
      list_.try_to(SYS_rseq, sys::thread_pointer() + static_cast<std::uint64_t>(__rseq_offset), 32,
                   kUnregister, RSEQ_SIG);
    list_.add(SYS_set_robust_list, 0, 24);
    list_.add(SYS_set_tid_address, 0);
  }

  void clear_addresses() {
    move_kernel_pages(plan_.kernel_pages, plan_.kernel_place, list_);
    const std::uint64_t kernel_end =
        plan_.kernel_place + (plan_.kernel_pages.end - plan_.kernel_pages.start);
    const Runs kept = tidy(
        {{plan_.area_base, plan_.area_base + plan_.area_size}, {plan_.kernel_place, kernel_end}});
    for (const Run& run : subtract({{kLowest, kHighest}}, kept))
      list_.add(SYS_munmap, run.start, run.end - run.start);
  }

  void map(std::size_t index) {
    const Mapping& mapping = record_.mappings[index];
    const std::uint64_t length = mapping.end - mapping.start;
    const int file = high_.of_mappings[index];
    switch (mapping.kind) {
      case MappingKind::anonymous:
      case MappingKind::stack:
      case MappingKind::file_contents: {
        const int grows = mapping.kind == MappingKind::stack ? MAP_GROWSDOWN | MAP_STACK : 0;
        // Absent pages of a lazy restart have their final protection at once.
        const std::uint64_t protection =
            plan_.lazy ? mapping.protection : std::uint64_t{PROT_READ | PROT_WRITE};
        list_.add(SYS_mmap, mapping.start, length, protection,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE | grows, ~0ULL, 0);
        break;
      }
      case MappingKind::file:
        list_.add(SYS_mmap, mapping.start, length, mapping.protection,
                  MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, file, mapping.offset);
        break;
      case MappingKind::shared_file:
      case MappingKind::shared_memory:
        list_.add(SYS_mmap, mapping.start, length, mapping.protection, MAP_SHARED | MAP_FIXED, file,
                  mapping.offset);
        break;
      case MappingKind::vdso:
        if (plan_.kernel_pages_stay)
          list_.add(SYS_mmap, mapping.start, length, PROT_READ | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, ~0ULL, 0);
        break;
      case MappingKind::vvar:
        break;
    }
  }

  void map_image(const MappedPages& pages) {
    list_.add(SYS_mmap, pages.start, pages.end - pages.start, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, high_.kept[1 + pages.file], pages.offset);
  }

  void protect() {
    if (plan_.lazy) {
      list_.add(SYS_close, 0);
      list_.take(userfaultfd_index_);
    }
    for (const Mapping& mapping : record_.mappings) {
      const std::uint64_t length = mapping.end - mapping.start;
      if (is_filled_in(mapping) && !plan_.lazy && mapping.protection != (PROT_READ | PROT_WRITE))
        list_.add(SYS_mprotect, mapping.start, length, mapping.protection);
      constexpr struct {
        std::uint64_t bit;
        int advice;
      } kAdvice[] = {{1, MADV_HUGEPAGE},   {2, MADV_NOHUGEPAGE}, {4, MADV_DONTFORK},
                     {8, MADV_WIPEONFORK}, {16, MADV_DONTDUMP},  {32, MADV_MERGEABLE}};
      for (const auto& [bit, advice] : kAdvice)
        if ((mapping.advice & bit) != 0) list_.try_to(SYS_madvise, mapping.start, length, advice);
      if ((mapping.advice & 64) != 0)
        list_.try_to(SYS_mlock2, mapping.start, length, MLOCK_ONFAULT);
    }
  }

  void describe_memory() {
    prctl_mm_map map{};
    static_assert(sizeof map >= sizeof record_.layout);
    std::memcpy(&map, record_.layout.data(), sizeof record_.layout);
    map.auxv = reinterpret_cast<__u64*>(desk_.put(record_.auxiliary));
    map.auxv_size = static_cast<__u32>(record_.auxiliary.size());
    map.exe_fd = ~0U;
    list_.add(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, desk_.put(map), sizeof map, 0);
    if (high_.executable < 0) return;
    // Only for who may: the link /proc/PID/exe is of no further consequence.
    map.exe_fd = static_cast<__u32>(high_.executable);
    list_.try_to(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, desk_.put(map), sizeof map, 0);
  }

  void set_dispositions() {
    for (unsigned i = 0; i < record_.dispositions.size(); ++i) {
      const unsigned signal = i + 1;
      if (signal == SIGKILL || signal == SIGSTOP) continue;
      list_.add(SYS_rt_sigaction, signal, desk_.put(record_.dispositions[i]), 0, kMaskBytes);
    }
  }

  void set_limits_and_options() {
    for (unsigned i = 0; i < 16; ++i) {
      const std::array<std::uint64_t, 2> limit{record_.limits[2 * i], record_.limits[2 * i + 1]};
      list_.try_to(SYS_prlimit64, 0, i, desk_.put(limit), 0);
    }
    list_.try_to(SYS_prctl, PR_SET_DUMPABLE, record_.dumpable == 1 ? 1 : 0, 0, 0, 0);
    list_.add(SYS_prctl, PR_SET_TIMERSLACK, record_.timer_slack, 0, 0, 0);
    list_.add(SYS_prctl, PR_SET_PDEATHSIG, record_.death_signal, 0, 0, 0);
    list_.add(SYS_prctl, PR_SET_CHILD_SUBREAPER, record_.subreaper, 0, 0, 0);
    if (record_.huge_pages_off != 0) list_.add(SYS_prctl, PR_SET_THP_DISABLE, 1, 0, 0, 0);
    if (record_.no_new_privileges != 0) list_.add(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  }

  void begin_thread(std::size_t index) {
    const Thread& thread = record_.threads[index];
    CallList own;
    become_thread(thread, own);
    own.add(kStop);
    CloneArguments arguments{};
    arguments.flags =
        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    arguments.stack = desk_.room(Area::kStackBytes);
    arguments.stack_size = Area::kStackBytes;
    arguments.set_tid = desk_.put(static_cast<std::int32_t>(thread.id));
    arguments.set_tid_size = 1;
    list_.add(kThread, desk_.put(arguments), sizeof arguments, desk_.put(own));
  }

  void become_thread(const Thread& thread, CallList& list) {
    list.add(SYS_set_tid_address, thread.clear_tid);
    if (thread.robust_bytes != 0)
      list.add(SYS_set_robust_list, thread.robust_list, thread.robust_bytes);
    if (thread.rseq != 0)
      list.add(SYS_rseq, thread.rseq, thread.rseq_bytes, 0, thread.rseq_signature);
    std::array<std::uint64_t, 3> stack = thread.alternate_stack;
    stack[1] &= ~std::uint64_t{SS_ONSTACK};  // the kernel finds that out from the stack pointer
    list.add(SYS_sigaltstack, desk_.put(stack), 0);
    list.add(SYS_prctl, PR_SET_NAME, desk_.put(thread.name), 0, 0, 0);
    // As far as this machine and this user have it.
    list.try_to(SYS_setpriority, PRIO_PROCESS, 0, thread.nice);
    const auto priority = static_cast<std::int32_t>(thread.priority);
    list.try_to(SYS_sched_setscheduler, 0, thread.policy, desk_.put(priority));
    if (!thread.affinity.empty())
      list.try_to(SYS_sched_setaffinity, 0, thread.affinity.size(), desk_.put(thread.affinity));
    for (const auto& pending : thread.pending)
      list.try_to(SYS_rt_tgsigqueueinfo, record_.id, thread.id, signal_in(pending),
                  desk_.put(pending));
    // Last: what comes before may need what the process had given up.
    const __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> kept{};
    if (!plan_.drop_privileges) {
      for (unsigned half = 0; half < 2; ++half) {
        const auto part = [&](unsigned which) {
          return static_cast<__u32>(thread.capabilities[which] >> (32 * half));
        };
        kept[half] = {part(2), part(1), part(0)};
      }
      // Whoever restarts it may have fewer.
      list.try_to(SYS_capset, desk_.put(header), desk_.put(kept));
    } else {
      list.add(SYS_capset, desk_.put(header), desk_.put(kept));
    }
  }

  void set_timers() {
    for (unsigned i = 0; i < 3; ++i) {
      auto times = record_.interval_timers[i];
      // It has gone off: the kernel sets it again when the signal is taken.
      if (i == ITIMER_REAL && (times[0] | times[1]) != 0 && (times[2] | times[3]) == 0)
        times[3] = 1;
      if (times != std::array<std::uint64_t, 4>{}) list_.add(SYS_setitimer, i, desk_.put(times), 0);
    }
    if (record_.timers.empty()) return;
    list_.try_to(SYS_prctl, kRestoreTimerIds, 1, 0, 0, 0);
    std::uint64_t next = 0;  // what the kernel hands out if it cannot be told
    std::vector<Timer> timers = record_.timers;
    std::sort(timers.begin(), timers.end(),
              [](const Timer& a, const Timer& b) { return a.id < b.id; });
    for (const Timer& timer : timers) {
      if (timer.id > kMostTimerId)
        throw Trouble("POSIX timer " + std::to_string(timer.id), ENOTSUP);
      SignalEvent event{};
      event.value = timer.value;
      event.signal = static_cast<std::int32_t>(timer.signal);
      event.notify = static_cast<std::int32_t>(timer.notify);
      event.thread = static_cast<std::int32_t>(timer.thread);
      // RACE none: ids are the process's own, and its only running thread is this one.
      const std::uint64_t id = desk_.put(static_cast<std::int32_t>(timer.id));
      const std::uint64_t what = desk_.put(event);
      if (!timers_are_told_) {
        const std::uint64_t spare = desk_.put(std::int32_t{0});
        for (; next < timer.id; ++next) {
          list_.add(SYS_timer_create, CLOCK_MONOTONIC, 0, spare);
          list_.add(SYS_timer_delete, next);
        }
        next = timer.id + 1;
      }
      list_.add(SYS_timer_create, timer.clock, what, id);
      list_.add(SYS_timer_settime, timer.id, 0, desk_.put(timer.times), 0);
    }
    list_.try_to(SYS_prctl, kRestoreTimerIds, 0, 0, 0, 0);
  }

  RebirthPlan& plan_;
  const Record& record_;
  const HighFiles& high_;
  Desk& desk_;
  CallList list_;
  std::size_t userfaultfd_index_ = 0;
  bool timers_are_told_ = ::prctl(kRestoreTimerIds, 1, 0, 0, 0) == 0;
};

void put_on_clothes(const Record& record) {
  ::umask(static_cast<mode_t>(record.umask));
  if (::chdir(record.directory.c_str()) != 0)
    throw Trouble("current directory " + record.directory, errno);
  if (::personality(record.personality) < 0) throw Trouble("personality", errno);
  if (record.session == record.id) {
    ::setsid();
  } else if (record.group == record.id) {
    ::setpgid(0, 0);
  }
}

[[noreturn]] void enter(std::uint64_t code, std::uint64_t list, std::uint64_t stack) {
  asm volatile(
      "mov %2, %%rsp\n\t"
      "xor %%ebp, %%ebp\n\t"
      "call *%0\n\t"
      "ud2"
      :
      : "r"(code), "D"(list), "r"(stack)
      : "memory");
  __builtin_unreachable();
}

}  // namespace

Result<Done> find_places(RebirthPlan& plan) {
  const auto text = read_whole("/proc/self/maps");
  if (!text) return text.error();
  std::vector<Run> taken;
  for (const MapLine& line : parse_maps(*text)) {
    if (line.name == "[vsyscall]") continue;
    taken.push_back({line.start, line.end});
    if (line.name != "[vdso]" && !line.name.starts_with("[vvar")) continue;
    if (plan.kernel_pages.end == 0) plan.kernel_pages = {line.start, line.start};
    plan.kernel_pages.end = line.end;
  }
  for (const Mapping& mapping : plan.record->mappings)
    taken.push_back({mapping.start, mapping.end});
  const std::uint64_t kernel_bytes = plan.kernel_pages.end - plan.kernel_pages.start;
  // What a thread needs: its list, its stack, its words; and a list for each mapping's calls.
  plan.area_size = Area::size_for(plan.record->threads.size()) +
                   plan.record->mappings.size() * 8 * sizeof(Call) +
                   plan.mapped.size() * sizeof(Call) + plan.record->timers.size() * 1024 +
                   kMostTimerId * 2 * sizeof(Call) * (plan.record->timers.empty() ? 0 : 1) +
                   plan.record->pending.size() * 256;
  for (const Thread& thread : plan.record->threads) plan.area_size += thread.pending.size() * 256;
  plan.area_size = bytes(pages_for(plan.area_size));
  const std::uint64_t at = find_hole(std::move(taken), plan.area_size + kernel_bytes + 4096);
  if (at == 0) return Error{"restart", ENOMEM, {}, "no addresses are left"};
  plan.area_base = at;
  plan.kernel_place = at + plan.area_size + 4096;
  return Done{};
}

namespace {

void become_or_throw(RebirthPlan& plan, const std::vector<std::vector<std::byte>>& contents,
                     const std::vector<int>& kept, HighFiles& high) {
  std::vector<int> with_images = kept;
  with_images.insert(with_images.end(), plan.image_files.begin(), plan.image_files.end());
  put_on_clothes(*plan.record);
  make_files(*plan.record, contents, with_images, high);
  void* const base = reinterpret_cast<void*>(plan.area_base);
  if (::mmap(base, plan.area_size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != base)
    throw Trouble("restart: an area", errno);
  const CarriedCode code = carried_code();
  std::memcpy(base, code.bytes.data(), code.bytes.size());
  if (::mprotect(base, Area::kCodeBytes, PROT_READ | PROT_EXEC) != 0)
    throw Trouble("restart: an area", errno);
  Area area(plan.area_base, plan.area_size);
  Desk desk(area);
  Rebirth rebirth(plan, high, desk);
  const CallList list = rebirth.list();
  const std::uint64_t place = desk.put(list);
  const std::uint64_t stack = desk.stack();
  // The parent looks for it there.
  const ListPlace where{kListPlace, place, rebirth.userfaultfd_index()};
  if (::write(high.kept[0], &where, sizeof where) != sizeof where)
    throw Trouble("restart: telling its parent", errno);
  // All signals: the C library would leave out those of its own, which timers send.
  const std::uint64_t mask = ~(std::uint64_t{1} << (SIGTRAP - 1));
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, kMaskBytes);
  enter(area.entry(), place, stack);
}

}  // namespace

void become(RebirthPlan& plan, const std::vector<std::vector<std::byte>>& contents,
            const std::vector<int>& kept) {
  HighFiles high;
  std::string trouble;
  try {
    become_or_throw(plan, contents, kept, high);
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  // The descriptor for it may have another number by now.
  const int words = high.kept.empty() ? kept.front() : high.kept.front();
  static_cast<void>(!::write(words, trouble.data(), trouble.size()));
  ::_exit(kTroubled);
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
