#include "checkpoint/sinks/output.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "sys/injection.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

WriteSignalsHeld::WriteSignalsHeld() noexcept {
  sigset_t pending;
  ::sigemptyset(&pending);
  ::sigpending(&pending);
  ::sigemptyset(&not_pending_);
  for (const int signal : {SIGPIPE, SIGXFSZ}) {
    if (::sigismember(&pending, signal) == 0) ::sigaddset(&not_pending_, signal);
  }
  ::pthread_sigmask(SIG_BLOCK, &not_pending_, &old_mask_);
}

WriteSignalsHeld::~WriteSignalsHeld() {
  const int saved = errno;
  const timespec no_time{};
  while (::sigtimedwait(&not_pending_, nullptr, &no_time) > 0) {
  }
  ::pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
  errno = saved;
}

int write_whole(int descriptor, std::span<const std::byte> bytes) noexcept {
  const WriteSignalsHeld held;
  while (!bytes.empty()) {
    if (const int error = sys::injected(sys::Call::write)) return error;
    // What is injected there is not an error, but how few bytes the kernel takes.
    const int few = sys::injected(sys::Call::short_write);
    const std::size_t wanted =
        few == 0 ? bytes.size() : std::min(bytes.size(), static_cast<std::size_t>(few));
    const ssize_t written = ::write(descriptor, bytes.data(), wanted);
    if (written > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    } else if (written == 0) {
      return EIO;  // no error, and no progress either
    } else if (errno == EAGAIN) {
      pollfd wait{descriptor, POLLOUT, 0};
      if (::poll(&wait, 1, -1) < 0 && errno != EINTR) return errno;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

int flush(int descriptor) noexcept {
  if (const int error = sys::injected(sys::Call::fsync)) return error;
  while (::fsync(descriptor) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
