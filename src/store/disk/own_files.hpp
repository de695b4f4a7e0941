// Descriptors that a fork()ed child may not keep: a lock of an open file ends when the last
// descriptor of it is closed, in whatever process that is, so that a child which lives on would
// hold its parent's stores. The child closes its copies before fork() returns in it.
//
// ASSUMES fork(): a child of vfork(), posix_spawn() or execve() has none of them anyway
// (O_CLOEXEC); one of a bare clone(2) keeps them.
#pragma once

#include <sys/types.h>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace store {

/// Owns such a descriptor. It has its place in a list: not copied, not moved.
class OwnFile {
 public:
  OwnFile() noexcept = default;
  ~OwnFile() { close(); }
  OwnFile(const OwnFile&) = delete;
  OwnFile& operator=(const OwnFile&) = delete;

  /// As open(2), with O_CLOEXEC: true, or false and errno. Closes what it had.
  bool open(const char* path, int flags, mode_t mode = 0) noexcept;
  void close() noexcept;
  /// -1 in a child.
  [[nodiscard]] int get() const noexcept PAGETRAP_SIGNAL_SAFE { return number_; }
  [[nodiscard]] bool valid() const noexcept { return number_ >= 0; }

 private:
  static void watch_forks() noexcept;
  void close_locked() noexcept;
  int number_ = -1;
  OwnFile* next_ = nullptr;
  OwnFile* previous_ = nullptr;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
