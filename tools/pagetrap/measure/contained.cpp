#include "contained.hpp"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <system_error>

namespace pagetrap::tool {
namespace {

constexpr int kThrew = 90;  // arbitrary, but not what a crashing sanitizer returns

[[noreturn]] void be_child(void (*work)(void* self), void* self, unsigned seconds) {
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  signal(SIGALRM, SIG_DFL);
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  sigprocmask(SIG_UNBLOCK, &alarm_only, nullptr);
  alarm(seconds);
  int status = 0;
  try {
    work(self);
  } catch (const std::exception&) {
    status = kThrew;
  }
  _exit(status);  // neither buffers nor destructors: they are the parent's
}

}  // namespace

SharedPage::SharedPage(std::size_t size_bytes)
    : data_(mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
      size_bytes_(size_bytes) {
  if (data_ == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
}

SharedPage::~SharedPage() { munmap(data_, size_bytes_); }

std::string run_in_child(void (*work)(void* self), void* self, unsigned seconds) {
  std::fflush(stdout);
  std::fflush(stderr);
  const pid_t child = fork();
  if (child < 0) return std::string("fork: ") + strerrordesc_np(errno);
  if (child == 0) be_child(work, self, seconds);
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return std::string("waitpid: ") + strerrordesc_np(errno);
  }
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    if (number == SIGALRM) return "no answer after " + std::to_string(seconds) + " s";
    return std::string("killed by SIG") + sigabbrev_np(number);
  }
  if (WEXITSTATUS(status) == kThrew) return "refused";
  if (WEXITSTATUS(status) != 0) return "exit status " + std::to_string(WEXITSTATUS(status));
  return {};
}

}  // namespace pagetrap::tool
