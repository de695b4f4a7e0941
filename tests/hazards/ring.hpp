// An io_uring of two entries, by bare system calls.
#pragma once

#include <linux/io_uring.h>
#include <sys/uio.h>

#include <algorithm>

#include "hazards/support.hpp"

namespace pagetrap::hazards {

class Ring {
 public:
  Ring() {
    io_uring_params parameters{};
    descriptor_ = static_cast<int>(::syscall(SYS_io_uring_setup, 2, &parameters));
    if (descriptor_ < 0) return;
    const auto map = [this](std::size_t size, off_t offset) {
      return static_cast<std::byte*>(::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                                            MAP_SHARED | MAP_POPULATE, descriptor_, offset));
    };
    const std::size_t size =
        std::max(parameters.sq_off.array + parameters.sq_entries * sizeof(std::uint32_t),
                 parameters.cq_off.cqes + parameters.cq_entries * sizeof(io_uring_cqe));
    std::byte* const rings = map(size, IORING_OFF_SQ_RING);
    entries_ = reinterpret_cast<io_uring_sqe*>(
        map(parameters.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES));
    submit_tail_ = reinterpret_cast<std::uint32_t*>(rings + parameters.sq_off.tail);
    submit_array_ = reinterpret_cast<std::uint32_t*>(rings + parameters.sq_off.array);
    complete_head_ = reinterpret_cast<std::uint32_t*>(rings + parameters.cq_off.head);
    completed_ = reinterpret_cast<io_uring_cqe*>(rings + parameters.cq_off.cqes);
  }
  ~Ring() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  [[nodiscard]] bool there() const { return descriptor_ >= 0; }

  /// Registers `pages` as a fixed buffer, which pins them. False: RLIMIT_MEMLOCK.
  [[nodiscard]] bool pin(PageRange pages) const {
    iovec buffer{pages.base, pages.size_bytes()};
    return ::syscall(SYS_io_uring_register, descriptor_, IORING_REGISTER_BUFFERS, &buffer, 1) == 0;
  }
  /// Begins to read `length` bytes of `file` to `to`. With IOSQE_ASYNC a kernel worker does it.
  [[nodiscard]] bool start(int opcode, unsigned flags, int file, std::byte* to, unsigned length) {
    io_uring_sqe& entry = entries_[0];
    std::memset(&entry, 0, sizeof entry);
    entry.opcode = static_cast<std::uint8_t>(opcode);
    entry.flags = static_cast<std::uint8_t>(flags);
    entry.fd = file;
    entry.addr = reinterpret_cast<std::uintptr_t>(to);
    entry.len = length;
    const std::atomic_ref<std::uint32_t> tail(*submit_tail_);
    submit_array_[tail & 1] = 0;
    tail.fetch_add(1);
    return ::syscall(SYS_io_uring_enter, descriptor_, 1, 0, 0, nullptr, 0) == 1;
  }
  /// Waits for what was begun, and returns what its completion says.
  int finish() {
    if (::syscall(SYS_io_uring_enter, descriptor_, 0, 1, IORING_ENTER_GETEVENTS, nullptr, 0) < 0)
      return -errno;
    const std::atomic_ref<std::uint32_t> head(*complete_head_);
    const int result = completed_[head & 3].res;
    head.fetch_add(1);
    return result;
  }
  int read(int opcode, int file, std::byte* to, unsigned length) {
    return start(opcode, 0, file, to, length) ? finish() : -errno;
  }

 private:
  int descriptor_ = -1;
  io_uring_sqe* entries_ = nullptr;
  io_uring_cqe* completed_ = nullptr;
  std::uint32_t* submit_tail_ = nullptr;
  std::uint32_t* submit_array_ = nullptr;
  std::uint32_t* complete_head_ = nullptr;
};

}  // namespace pagetrap::hazards
