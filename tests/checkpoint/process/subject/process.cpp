// What a process is beside memory, threads and files.
#include <linux/capability.h>
#include <linux/limits.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "stage.hpp"

extern char** environ;

namespace subject {
namespace {

const Registered kAttributes("attributes", [](Stage& stage) {
  const std::string folder = stage.file("inside");
  must(::mkdir(folder.c_str(), 0700), "mkdir");
  must(::chdir(folder.c_str()), "chdir");
  ::umask(0137);
  must(::personality(ADDR_NO_RANDOMIZE), "personality");
  must(::prctl(PR_SET_NAME, "other (name", 0, 0, 0), "PR_SET_NAME");
  must(::prctl(PR_SET_TIMERSLACK, 123'456, 0, 0, 0), "PR_SET_TIMERSLACK");
  must(::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "PR_SET_CHILD_SUBREAPER");
  must(::prctl(PR_SET_PDEATHSIG, SIGUSR2, 0, 0, 0), "PR_SET_PDEATHSIG");
  must(::prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), "PR_SET_THP_DISABLE");
  must(::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "PR_SET_DUMPABLE");
  must(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
  stage.wait_for_go();
  std::array<char, PATH_MAX> path{};
  stage.expect(::getcwd(path.data(), path.size()) != nullptr && folder == path.data(),
               "current directory");
  stage.expect(::umask(0) == 0137, "umask");
  stage.expect(::personality(0xffffffff) == ADDR_NO_RANDOMIZE, "personality");
  std::array<char, 17> name{};
  ::prctl(PR_GET_NAME, name.data(), 0, 0, 0);
  stage.expect(std::strcmp(name.data(), "other (name") == 0, "its name");
  stage.expect(::prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) == 123'456, "timer slack");
  int number = 0;
  ::prctl(PR_GET_CHILD_SUBREAPER, &number, 0, 0, 0);
  stage.expect(number == 1, "it adopts orphans");
  ::prctl(PR_GET_PDEATHSIG, &number, 0, 0, 0);
  stage.expect(number == SIGUSR2, "the signal of its parent's death");
  stage.expect(::prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1, "huge pages are off");
  stage.expect(::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0, "not to be dumped");
  stage.expect(::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, "no new privileges");
});

// Of the process's own thread.
std::array<__user_cap_data_struct, 2> capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  must(static_cast<int>(::syscall(SYS_capget, &header, data.data())), "capget");
  return data;
}
const Registered kCapabilities("capabilities", [](Stage& stage) {
  constexpr unsigned kGivenUp = 1U << CAP_NET_RAW;
  auto kept = capabilities();
  kept[0].effective &= ~kGivenUp;
  kept[0].permitted &= ~kGivenUp;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  must(static_cast<int>(::syscall(SYS_capset, &header, kept.data())), "capset");
  const auto before = capabilities();
  stage.wait_for_go();
  const auto after = capabilities();
  for (std::size_t half = 0; half < before.size(); ++half) {
    stage.expect(before[half].effective == after[half].effective, "effective capabilities");
    stage.expect(before[half].permitted == after[half].permitted, "permitted capabilities");
  }
});

const Registered kLimits("limits", [](Stage& stage) {
  const rlimit files{300, 400};
  const rlimit stack{4 << 20, RLIM_INFINITY};
  const rlimit core{0, 12345};
  const rlimit processes{12345, 23456};
  must(::setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
  must(::setrlimit(RLIMIT_STACK, &stack), "setrlimit");
  must(::setrlimit(RLIMIT_CORE, &core), "setrlimit");
  must(::setrlimit(RLIMIT_NPROC, &processes), "setrlimit");
  stage.wait_for_go();
  const auto is = [&](int which, const rlimit& wanted, const char* what) {
    rlimit now{};
    stage.expect(::getrlimit(static_cast<__rlimit_resource>(which), &now) == 0 &&
                     now.rlim_cur == wanted.rlim_cur && now.rlim_max == wanted.rlim_max,
                 what);
  };
  is(RLIMIT_NOFILE, files, "RLIMIT_NOFILE");
  is(RLIMIT_STACK, stack, "RLIMIT_STACK");
  is(RLIMIT_CORE, core, "RLIMIT_CORE");
  is(RLIMIT_NPROC, processes, "RLIMIT_NPROC");
});

std::string program() {
  std::array<char, PATH_MAX> path{};
  return ::readlink("/proc/self/exe", path.data(), path.size() - 1) > 0 ? path.data() : "";
}

const Registered kIdentity("identity", [](Stage& stage) {
  must(::setenv("SUBJECT_OWN", "made by itself", 1), "setenv");
  const std::string exe = program();
  const std::string words = contents_of("/proc/self/cmdline");
  const std::string environment = contents_of("/proc/self/environ");
  const std::string auxiliary = contents_of("/proc/self/auxv");
  const pid_t process = ::getpid();
  const pid_t group = ::getpgrp();
  must(::setpgid(0, 0), "setpgid");
  stage.wait_for_go();
  stage.expect(::getpid() == process && group != 0, "its id");
  stage.expect(::getpgrp() == process, "its group");
  stage.expect(program() == exe, "/proc/self/exe");
  stage.expect(!words.empty() && contents_of("/proc/self/cmdline") == words, "cmdline");
  stage.expect(!environment.empty() && contents_of("/proc/self/environ") == environment, "environ");
  stage.expect(contents_of("/proc/self/auxv") == auxiliary, "auxv");
  const char* const own = ::getenv("SUBJECT_OWN");
  stage.expect(own != nullptr && std::strcmp(own, "made by itself") == 0, "its environment");
  stage.expect(contents_of("/proc/self/maps").find("[heap]") != std::string::npos, "[heap]");
  stage.expect(contents_of("/proc/self/maps").find("[stack]") != std::string::npos, "[stack]");
  stage.expect(contents_of("/proc/self/maps").find("[vdso]") != std::string::npos, "[vdso]");
});

const Registered kChildren("new_children", [](Stage& stage) {
  ::signal(SIGCHLD, SIG_DFL);
  stage.wait_for_go();
  std::array<int, 2> ends{};
  must(::pipe(ends.data()), "pipe");
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], 1);
    ::execl("/bin/sh", "sh", "-c", "echo from a child; exit 3", nullptr);
    ::_exit(1);
  }
  ::close(ends[1]);
  std::array<char, 64> words{};
  stage.expect(::read(ends[0], words.data(), words.size() - 1) > 0 &&
                   std::strcmp(words.data(), "from a child\n") == 0,
               "fork and exec");
  int status = 0;
  stage.expect(::waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3, "wait");
  stage.expect(::system("exit 7") == 7 << 8, "system");
  const pid_t vforked = ::vfork();
  if (vforked == 0) ::_exit(5);
  stage.expect(::waitpid(vforked, &status, 0) == vforked && WEXITSTATUS(status) == 5, "vfork");
});

const Registered kClocks("clocks", [](Stage& stage) {
  timespec monotonic{};
  timespec wall{};
  ::clock_gettime(CLOCK_MONOTONIC, &monotonic);
  ::clock_gettime(CLOCK_REALTIME, &wall);
  stage.wait_for_go();
  timespec now{};
  bool forwards = true;
  timespec last = monotonic;
  for (int i = 0; i < 100'000; ++i) {
    forwards &= ::clock_gettime(CLOCK_MONOTONIC, &now) == 0;
    forwards &=
        now.tv_sec > last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec >= last.tv_nsec);
    last = now;
  }
  stage.expect(forwards, "time goes forward");
  stage.expect(::time(nullptr) >= wall.tv_sec, "time of day");
  stage.expect(::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0, "processor time");
  timespec coarse{};
  stage.expect(
      ::clock_gettime(CLOCK_MONOTONIC_COARSE, &coarse) == 0 && coarse.tv_sec >= monotonic.tv_sec,
      "a coarse clock");
});

const Registered kScheduling("scheduling", [](Stage& stage) {
  must(::setpriority(PRIO_PROCESS, 0, 5), "setpriority");
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  must(::sched_setaffinity(0, sizeof one, &one), "sched_setaffinity");
  const int policy = ::sched_getscheduler(0);
  stage.wait_for_go();
  errno = 0;
  stage.expect(::getpriority(PRIO_PROCESS, 0) == 5, "nice");
  stage.expect(::sched_getscheduler(0) == policy, "policy");
  CPU_ZERO(&one);
  ::sched_getaffinity(0, sizeof one, &one);
  stage.expect(CPU_COUNT(&one) == 1 && CPU_ISSET(0, &one), "processors");
});

}  // namespace
}  // namespace subject
