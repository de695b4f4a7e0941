#include "rivals/fork_save.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "harness/clock.hpp"

namespace pagetrap::bench::rivals {

namespace {

constexpr std::size_t kBuffer = std::size_t{1} << 20;

}  // namespace

ForkSave::ForkSave(const std::byte* heap, std::size_t size_bytes, ForkedChild child)
    : buffer_(kBuffer) {
  populate(buffer_.data(), kBuffer);
  std::array<int, 2> to_child{};
  std::array<int, 2> from_child{};
  if (pipe2(to_child.data(), O_CLOEXEC) != 0 || pipe2(from_child.data(), O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "pipe");
  begin_ns_ = now_ns();
  const long made = syscall(SYS_fork);
  if (made == 0) be_the_child(heap, size_bytes, child, to_child.data(), from_child.data());
  end_ns_ = now_ns();
  if (made < 0) throw std::system_error(errno, std::generic_category(), "fork");
  child_ = static_cast<pid_t>(made);
  close(to_child[0]);
  close(from_child[1]);
  to_child_ = to_child[1];
  from_child_ = from_child[0];
}

void ForkSave::be_the_child(const std::byte* heap, std::size_t size_bytes, ForkedChild child,
                            const int* to_child, const int* from_child) const noexcept {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  close(to_child[1]);
  close(from_child[0]);
  char byte = 'd';
  if (child == ForkedChild::saves_all) {
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    for (std::size_t offset = 0; offset < size_bytes; offset += kBuffer) {
      const std::size_t length = std::min(kBuffer, size_bytes - offset);
      std::memcpy(buffer_.data(), heap + offset, length);
      if (write(null, buffer_.data(), length) != static_cast<ssize_t>(length)) _exit(1);
    }
    if (write(from_child[1], &byte, 1) != 1) _exit(1);
  }
  _exit(read(to_child[0], &byte, 1) == 0 ? 0 : 1);  // until the parent closes its end
}

void ForkSave::wait() {
  char byte = 0;
  ssize_t length = 0;
  while ((length = read(from_child_, &byte, 1)) < 0 && errno == EINTR) {
  }
  if (length != 1) throw std::runtime_error("the forked child could not save");
}

ForkSave::~ForkSave() {
  close(to_child_);
  close(from_child_);
  while (waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace pagetrap::bench::rivals
