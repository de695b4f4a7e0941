#include "sys/membarrier.hpp"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace pagetrap::sys {
namespace {

int membarrier(int command) noexcept {
  return ::syscall(SYS_membarrier, command, 0, 0) == 0 ? 0 : errno;
}

}  // namespace

int barrier_in_all_threads() noexcept {
  const int saved = errno;
  int error = membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
  if (error == EPERM) {  // not registered yet
    error = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
    if (error == 0) error = membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
  }
  errno = saved;
  return error;
}

}  // namespace pagetrap::sys
