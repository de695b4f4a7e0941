#include "store/disk/locks.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

struct flock as_flock(int kind, LockRange range) noexcept {
  struct flock lock {};
  lock.l_type = static_cast<short>(kind);
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(range.first);
  lock.l_len = static_cast<off_t>(range.count);
  return lock;
}

}  // namespace

Outcome set_lock(int descriptor, Lock lock, LockRange range) noexcept {
  const int kind = lock == Lock::none ? F_UNLCK : lock == Lock::shared ? F_RDLCK : F_WRLCK;
  struct flock wanted = as_flock(kind, range);
  if (::fcntl(descriptor, F_OFD_SETLK, &wanted) == 0) return kDone;
  const int error = errno == EACCES || errno == EAGAIN ? EBUSY : errno;
  return {"lock of a store", error, {}, error == EBUSY ? "somebody has it open" : ""};
}

Result<std::optional<LockRange>> find_lock(int descriptor, LockRange range) noexcept {
  struct flock found = as_flock(F_WRLCK, range);
  if (::fcntl(descriptor, F_OFD_GETLK, &found) != 0) return Error{"locks of a store", errno};
  if (found.l_type == F_UNLCK) return std::optional<LockRange>();
  const auto first = static_cast<std::uint64_t>(found.l_start);
  const std::uint64_t end = found.l_len == 0 ? range.first + range.count
                                             : first + static_cast<std::uint64_t>(found.l_len);
  const std::uint64_t from = std::max(first, range.first);
  return std::optional(LockRange{from, std::min(end, range.first + range.count) - from});
}

// The kernel tells of any lock in a range: so ask again beside it until there is none.
Result<std::optional<SnapshotsInUse>> snapshots_in_use(int descriptor) noexcept {
  auto one = find_lock(descriptor, kSnapshotLocks);
  if (!one) return one.error();
  if (!*one) return std::optional<SnapshotsInUse>();
  const std::uint64_t end = kSnapshotLocks.first + kSnapshotLocks.count;
  std::uint64_t lowest = (*one)->first;
  std::uint64_t beyond = (*one)->first + (*one)->count;
  while (lowest > kSnapshotLocks.first) {
    one = find_lock(descriptor, {kSnapshotLocks.first, lowest - kSnapshotLocks.first});
    if (!one) return one.error();
    if (!*one) break;
    lowest = (*one)->first;
  }
  while (beyond < end) {
    one = find_lock(descriptor, {beyond, end - beyond});
    if (!one) return one.error();
    if (!*one) break;
    beyond = (*one)->first + (*one)->count;
  }
  return std::optional(
      SnapshotsInUse{lowest - kSnapshotLocks.first, beyond - 1 - kSnapshotLocks.first});
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
