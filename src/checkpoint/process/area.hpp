// Area: some pages in another process that hold carried code, its lists and its stacks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include <pagetrap/core/result.hpp>

#include "checkpoint/process/tracee.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// Where a process has a `syscall` instruction: in the code that the kernel gives every process.
/// Errors  ENOTSUP: it has none.
Result<std::uint64_t> find_system_call(pid_t process);

/// Layout: a page of code; then what reserve() hands out, from the front.
class Area {
 public:
  static constexpr std::uint64_t kCodeBytes = 4096;
  static constexpr std::uint64_t kStackBytes = 2048;
  /// Enough for a process of so many threads.
  static std::uint64_t size_for(std::size_t threads) noexcept {
    return 256 * 1024 + std::uint64_t{32 * 1024} * threads;
  }

  Area() = default;
  Area(std::uint64_t base, std::uint64_t size) noexcept
      : base_(base), size_(size), next_(base + kCodeBytes) {}
  /// Maps one in a stopped process, by a system call of its own, and puts the code there.
  /// Errors  ENOTSUP: there is no `syscall` instruction in its vdso; those of mmap(2).
  static Result<Area> map_in(StoppedProcess& stopped);

  [[nodiscard]] bool valid() const noexcept { return base_ != 0; }
  [[nodiscard]] std::uint64_t base() const noexcept { return base_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> range() const noexcept {
    return {base_, base_ + size_};
  }
  [[nodiscard]] std::uint64_t entry() const noexcept { return base_ + carried_code().entry_offset; }
  /// Addresses for so many bytes, aligned to 64; 0: it is full.
  std::uint64_t reserve(std::uint64_t bytes) noexcept {
    const std::uint64_t at = (next_ + 63) & ~std::uint64_t{63};
    if (bytes > size_ || at > base_ + size_ - bytes) return 0;
    next_ = at + bytes;
    return at;
  }
  void clear() noexcept { next_ = base_ + kCodeBytes; }

 private:
  std::uint64_t base_ = 0;
  std::uint64_t size_ = 0;
  std::uint64_t next_ = 0;
};

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
