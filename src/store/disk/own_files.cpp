#include "store/disk/own_files.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <utility>

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

// RACE one thread opens a file while another forks: held over both, so that the child finds every
// descriptor that it has on the list.
constinit std::mutex g_lock;
constinit OwnFile* g_first = nullptr;  // GUARDED_BY(g_lock)

}  // namespace

void OwnFile::watch_forks() noexcept {
  static std::once_flag once;
  std::call_once(once, [] {
    // Without it (no memory) a child keeps the locks, as it would without this file.
    static_cast<void>(::pthread_atfork([] { g_lock.lock(); }, [] { g_lock.unlock(); },
                                       [] {
                                         while (g_first != nullptr) g_first->close_locked();
                                         g_lock.unlock();
                                       }));
  });
}

bool OwnFile::open(const char* path, int flags, mode_t mode) noexcept {
  watch_forks();
  const std::lock_guard guard(g_lock);
  close_locked();
  // Nothing may be waited for under the lock, such as the other end of a pipe of that name.
  number_ = ::open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, mode);
  if (number_ < 0) return false;
  next_ = g_first;
  previous_ = nullptr;
  if (next_ != nullptr) next_->previous_ = this;
  g_first = this;
  return true;
}

void OwnFile::close() noexcept {
  const std::lock_guard guard(g_lock);
  close_locked();
}

void OwnFile::close_locked() noexcept {
  if (number_ < 0) return;
  if (previous_ != nullptr) previous_->next_ = next_;
  if (next_ != nullptr) next_->previous_ = previous_;
  if (g_first == this) g_first = next_;
  next_ = previous_ = nullptr;
  // close(2) releases the number even when it reports an error; there is nothing to retry.
  ::close(std::exchange(number_, -1));
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
