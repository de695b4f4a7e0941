// Opening and registering a userfaultfd. The ioctls of the fault path are in signal_safe_calls.hpp.
#pragma once

#include <cstdint>

#include <pagetrap/core/result.hpp>

#include "sys/fd.hpp"

namespace pagetrap::sys {

/// An open userfaultfd and what came with it.
struct Userfaultfd {
  Descriptor descriptor;
  bool kernel_mode = false;    // faults inside system calls are delivered too
  std::uint64_t features = 0;  // what the kernel says it has
};

/// Opens a userfaultfd with exactly `features`. With `kernel_mode` it must see faults raised inside
/// the kernel: userfaultfd(2) as root or with vm.unprivileged_userfaultfd=1, else /dev/userfaultfd
/// (6.1); without, UFFD_USER_MODE_ONLY (5.11), which any user may have.
/// `nonblocking` is for readers that poll.
PAGETRAP_API Result<Userfaultfd> open_userfaultfd(std::uint64_t features, bool kernel_mode,
                                                  bool nonblocking);

/// All features the kernel has (asked of a throw-away descriptor); 0 if there is no userfaultfd.
PAGETRAP_API std::uint64_t userfaultfd_features(int& error) noexcept;

/// UFFDIO_REGISTER with UFFDIO_REGISTER_MODE_ bits. `ioctls` gets what the range supports.
PAGETRAP_API int uffd_register(int uffd, PageRange range, std::uint64_t mode,
                               std::uint64_t* ioctls = nullptr) noexcept;
PAGETRAP_API int uffd_unregister(int uffd, PageRange range) noexcept;

}  // namespace pagetrap::sys
