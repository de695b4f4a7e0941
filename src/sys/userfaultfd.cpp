#include "sys/userfaultfd.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "sys/injection.hpp"
#include "sys/kernel_abi.hpp"

namespace pagetrap::sys {
namespace {

Descriptor open_by_device(int flags) noexcept {
  const Descriptor device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (!device.valid()) return Descriptor{};
  return Descriptor(::ioctl(device.get(), USERFAULTFD_IOC_NEW, flags));
}

Descriptor open_by_call(int flags) noexcept {
  return Descriptor(static_cast<int>(::syscall(SYS_userfaultfd, flags)));
}

}  // namespace

Result<Userfaultfd> open_userfaultfd(std::uint64_t features, bool kernel_mode, bool nonblocking) {
  if (const int error = injected(Call::userfaultfd)) return Error{"userfaultfd", error};
  const int flags = O_CLOEXEC | (nonblocking ? O_NONBLOCK : 0);
  Userfaultfd opened;
  opened.kernel_mode = kernel_mode;
  if (kernel_mode) {
    opened.descriptor = open_by_call(flags);
    const int first_error = errno;
    if (!opened.descriptor.valid()) opened.descriptor = open_by_device(flags);
    if (!opened.descriptor.valid())
      return Error{"userfaultfd",
                   first_error,
                   {},
                   "needs root or CAP_SYS_PTRACE, sysctl vm.unprivileged_userfaultfd=1, or read "
                   "and write permission on /dev/userfaultfd"};
  } else {
    opened.descriptor = open_by_call(flags | UFFD_USER_MODE_ONLY);
    if (!opened.descriptor.valid())
      return Error{"userfaultfd",
                   errno,
                   {},
                   "needs Linux 5.11 with CONFIG_USERFAULTFD, and no seccomp filter against it"};
  }
  uffdio_api api{UFFD_API, features, 0};
  if (::ioctl(opened.descriptor.get(), UFFDIO_API, &api) != 0)
    return Error{
        "UFFDIO_API", errno, {}, "the kernel lacks a userfaultfd feature; see pagetrap doctor"};
  opened.features = api.features;
  return opened;
}

std::uint64_t userfaultfd_features(int& error) noexcept {
  const Descriptor uffd = open_by_call(O_CLOEXEC | UFFD_USER_MODE_ONLY);
  error = uffd.valid() ? 0 : errno;
  if (!uffd.valid()) return 0;
  uffdio_api api{UFFD_API, 0, 0};
  if (::ioctl(uffd.get(), UFFDIO_API, &api) != 0) {
    error = errno;
    return 0;
  }
  return api.features;
}

int uffd_register(int uffd, PageRange range, std::uint64_t mode, std::uint64_t* ioctls) noexcept {
  if (const int error = injected(Call::uffd_register)) return error;
  uffdio_register argument{
      {reinterpret_cast<std::uintptr_t>(range.base), range.size_bytes()}, mode, 0};
  if (::ioctl(uffd, UFFDIO_REGISTER, &argument) != 0) return errno;
  if (ioctls != nullptr) *ioctls = argument.ioctls;
  return 0;
}

int uffd_unregister(int uffd, PageRange range) noexcept {
  uffdio_range argument{reinterpret_cast<std::uintptr_t>(range.base), range.size_bytes()};
  return ::ioctl(uffd, UFFDIO_UNREGISTER, &argument) != 0 ? errno : 0;
}

}  // namespace pagetrap::sys
