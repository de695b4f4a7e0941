// Write-protect traps by userfaultfd with bare system calls, for one range: in the faulting thread
// (SIGBUS) and by one handler thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

#include "harness/mapping.hpp"
#include "rivals/handler_swap.hpp"

namespace pagetrap::bench::rivals {

/// A userfaultfd that traps writes to one mapping. Throws std::system_error where the kernel or the
/// user's rights do not allow it.
class UffdRange {
 public:
  UffdRange(std::size_t size_bytes, bool by_handler_thread);
  ~UffdRange();
  UffdRange(const UffdRange&) = delete;
  UffdRange& operator=(const UffdRange&) = delete;

  [[nodiscard]] Mapping& memory() noexcept { return memory_; }
  [[nodiscard]] const Mapping& memory() const noexcept { return memory_; }
  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }

 private:
  Mapping memory_;
  int descriptor_ = -1;
};

/// UFFDIO_WRITEPROTECT on or off. False if the kernel refuses.
bool write_protect(int descriptor, std::byte* from, std::size_t size_bytes, bool on) noexcept;

/// In the faulting thread. One at a time in a process.
class UffdInlineTrap {
 public:
  static constexpr const char* kName = "userfaultfd write-protect + SIGBUS by hand";

  explicit UffdInlineTrap(std::size_t size_bytes);
  [[nodiscard]] std::byte* page(std::size_t index) const noexcept {
    return range_.memory().page(index);
  }
  bool protect(std::byte* from, std::size_t size_bytes) noexcept {
    return write_protect(range_.descriptor(), from, size_bytes, true);
  }
  [[nodiscard]] static std::uint64_t faults() noexcept;

  /// As in MprotectTrap.
  void record_into(std::byte** list) noexcept;
  [[nodiscard]] static std::size_t recorded() noexcept;
  static void forget_recorded() noexcept;

  class Armed {
   public:
    Armed() noexcept;

   private:
    HandlerSwap swap_;
  };

 private:
  UffdRange range_;
};

/// By a handler thread on the maker's CPU that sleeps in read(2).
class UffdThreadTrap {
 public:
  static constexpr const char* kName = "userfaultfd + handler thread by hand";

  explicit UffdThreadTrap(std::size_t size_bytes);
  ~UffdThreadTrap();
  UffdThreadTrap(const UffdThreadTrap&) = delete;
  UffdThreadTrap& operator=(const UffdThreadTrap&) = delete;

  [[nodiscard]] std::byte* page(std::size_t index) const noexcept {
    return range_.memory().page(index);
  }
  bool protect(std::byte* from, std::size_t size_bytes) noexcept {
    return write_protect(range_.descriptor(), from, size_bytes, true);
  }
  [[nodiscard]] std::uint64_t faults() const noexcept {
    return faults_.load(std::memory_order_relaxed);
  }

  struct Armed {};  // no handler to put in place

 private:
  void serve() noexcept;
  UffdRange range_;
  std::atomic<std::uint64_t> faults_{0};
  std::atomic<bool> ending_{false};
  std::thread server_;
};

}  // namespace pagetrap::bench::rivals
