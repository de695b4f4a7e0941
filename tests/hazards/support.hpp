// What the hazard tests share: children that must end in a known way, and regions over every
// backend. A hazard is something that kills or hangs a process, so most tests run in a child that
// an alarm ends: a hang is a result (SIGALRM) and not a stuck test run.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <pagetrap/vm/vm.hpp>

// There in programs that AddressSanitizer instruments.
extern "C" [[gnu::weak]] void __asan_init();

namespace pagetrap::hazards {

/// AddressSanitizer gives every thread an alternate stack, makes mlockall() do nothing, and looks
/// at memory through a pipe: some tests would test it and not us.
inline bool under_sanitizer() { return &__asan_init != nullptr; }

/// How a child ended: by exit(`code`), or by `signal`.
struct End {
  int code = -1;
  int signal = 0;
  friend bool operator==(const End&, const End&) = default;
  friend std::ostream& operator<<(std::ostream& out, const End& end) {
    if (end.signal == SIGALRM) return out << "hung (ended by the test's alarm)";
    if (end.signal != 0) return out << "killed by " << ::strsignal(end.signal);
    return out << "exit code " << end.code;
  }
};
inline constexpr End kSucceeded{0, 0};
inline constexpr int kBroken = 3;  // exit code of a child in which require() failed

inline End exited(int code) { return {code, 0}; }
inline End killed_by(int signal) { return {-1, signal}; }

/// In a child: ends it with a message unless `holds`.
inline void require(bool holds, const char* what) {
  if (holds) return;
  ::dprintf(STDERR_FILENO, "child %d: not so: %s (errno %d)\n", ::getpid(), what, errno);
  ::_exit(kBroken);
}

/// In a child: the value, or the end with the error's own words.
template <class T>
T must(Result<T> result, const char* what) {
  if (!result) {
    ::dprintf(STDERR_FILENO, "child %d: %s: %s\n", ::getpid(), what,
              describe(result.error()).c_str());
    ::_exit(kBroken);
  }
  return std::move(result).value();
}

/// Waits for a child; one that does not end within `seconds` hangs and is killed. (Its own alarm is
/// not enough: it may hang with all signals blocked.)
inline End wait_for(pid_t child, unsigned seconds = 20) {
  const int handle = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
  pollfd ended{handle, POLLIN, 0};
  int ready = 0;
  // SA_RESTART does not hold for poll: a timer's signal begins the wait anew.
  while ((ready = ::poll(&ended, 1, static_cast<int>(seconds + 1) * 1000)) < 0 && errno == EINTR) {
  }
  if (handle >= 0) ::close(handle);
  if (ready == 0) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    return killed_by(SIGALRM);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) return killed_by(WTERMSIG(status));
  return exited(WEXITSTATUS(status));
}

inline void no_core_dumps() {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
}

/// A fork()ed child that runs `work` and exits with 0, at the latest after `seconds`.
template <class Work>
pid_t start_child(Work work, unsigned seconds = 20) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::alarm(seconds);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  no_core_dumps();
  work();
  ::_exit(0);
}

/// The same, waited for. The child starts with the default actions for SIGSEGV and SIGBUS (as a
/// program without any other handler, also under AddressSanitizer): a Region made in it puts
/// pagetrap's handler in front of them.
template <class Work>
End in_child(Work work, unsigned seconds = 20) {
  return wait_for(start_child(
                      [&work] {
                        ::signal(SIGSEGV, SIG_DFL);
                        ::signal(SIGBUS, SIG_DFL);
                        work();
                      },
                      seconds),
                  seconds);
}

/// A child that keeps the parent's regions and handlers.
template <class Work>
End in_forked_copy(Work work, unsigned seconds = 20) {
  return wait_for(start_child(work, seconds), seconds);
}

inline constexpr std::array kTrapping = {BackendId::uffd_inline, BackendId::uffd_thread,
                                         BackendId::mprotect};

/// Backends that raise `faults` over `backing` on this machine.
inline std::vector<BackendId> backends_for(FaultSet faults, Backing backing = Backing::anonymous) {
  std::vector<BackendId> able;
  for (const BackendId id : kTrapping)
    if (capabilities(id, backing).faults.covers(faults)) able.push_back(id);
  return able;
}

/// Those of them that call the handler in the faulting thread.
inline std::vector<BackendId> inline_backends_for(FaultSet faults) {
  std::vector<BackendId> able;
  for (const BackendId id : backends_for(faults))
    if (capabilities(id, Backing::anonymous).faulting_thread) able.push_back(id);
  return able;
}

inline RegionOptions options_for(BackendId id, FaultSet faults) {
  RegionOptions options;
  options.backend = id;
  options.faults = faults;
  return options;
}

/// The ways to track writes that this machine has: each form of DIRTY over each backend.
inline std::vector<RegionOptions> tracking_options() {
  std::vector<RegionOptions> able;
  for (const DirtyForm form : {DirtyForm::scan, DirtyForm::ring, DirtyForm::traps}) {
    for (const BackendId id : kTrapping) {
      RegionOptions options;
      options.backend = id;
      options.dirty = form;
      if (Region::create(page_size(), options)) able.push_back(options);
    }
  }
  return able;
}
inline std::string tracked_by(const RegionOptions& options) {
  return std::string(name(options.backend)) + ", form " +
         std::to_string(static_cast<int>(options.dirty));
}

/// Counts faults and opens their pages.
struct Opener {
  std::atomic<int> faults{0};
  static Verdict open(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
    static_cast<Opener*>(self)->faults.fetch_add(1);
    return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
  }
};

inline PageRange page_at(const Region& region, std::size_t index) {
  return {region.data() + index * page_size(), Pages{1}};
}

/// One volatile access, so that no compiler moves or drops it.
inline void store(std::byte* to, unsigned value) {
  *reinterpret_cast<volatile unsigned char*>(to) = static_cast<unsigned char>(value);
}
inline unsigned load(const std::byte* from) {
  return *reinterpret_cast<const volatile unsigned char*>(from);
}

/// Pages that belong to nobody's region.
inline std::byte* foreign_pages(std::size_t count, int prot) {
  void* const mapped =
      ::mmap(nullptr, count * page_size(), prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return mapped == MAP_FAILED ? nullptr : static_cast<std::byte*>(mapped);
}

/// A page of `value` in every byte, made before any fault: handlers run on small alternate stacks.
inline const std::vector<std::byte> g_patterns = [] {
  std::vector<std::byte> all(256 * page_size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::byte>(i / page_size());
  return all;
}();
inline const std::byte* page_full_of(std::size_t value) {
  return &g_patterns[value % 256 * page_size()];
}

inline pid_t thread_id() { return static_cast<pid_t>(::syscall(SYS_gettid)); }

/// Waits until a thread of this process sleeps in the kernel. It must have no other reason to.
inline void wait_until_asleep(pid_t thread) {
  const std::string path = "/proc/self/task/" + std::to_string(thread) + "/stat";
  for (;; ::usleep(500)) {
    std::array<char, 256> text{};
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    require(file >= 0 && ::read(file, text.data(), text.size() - 1) > 0, "the thread is there");
    ::close(file);
    const char* const name_end = std::strrchr(text.data(), ')');
    if (name_end != nullptr && name_end[2] == 'S') return;
  }
}

inline std::size_t count_mappings() {
  std::FILE* const maps = std::fopen("/proc/self/maps", "re");
  if (maps == nullptr) return 0;
  std::size_t lines = 0;
  for (int c = std::fgetc(maps); c != EOF; c = std::fgetc(maps)) lines += c == '\n' ? 1 : 0;
  std::fclose(maps);
  return lines;
}

}  // namespace pagetrap::hazards
