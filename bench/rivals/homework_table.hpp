// The mmap homework as a student hands it in: SIGSEGV, unmap the page before, map a new one,
// compute.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rivals/handler_swap.hpp"

namespace pagetrap::bench::rivals {

/// A table of square roots of which one page exists. One at a time in a process, one thread.
class HomeworkTable {
 public:
  static constexpr const char* kName = "SIGSEGV + munmap + mmap, one page (the homework)";

  /// Throws std::system_error.
  explicit HomeworkTable(std::size_t size_bytes);
  ~HomeworkTable();
  HomeworkTable(const HomeworkTable&) = delete;
  HomeworkTable& operator=(const HomeworkTable&) = delete;

  [[nodiscard]] const volatile double* entries() const noexcept {
    return reinterpret_cast<const volatile double*>(base_);
  }
  [[nodiscard]] static std::uint64_t faults() noexcept;

  /// While it lives, faults are the table's.
  class Armed {
   public:
    Armed() noexcept;

   private:
    HandlerSwap swap_;
  };

 private:
  std::byte* base_ = nullptr;
  std::size_t size_bytes_ = 0;
};

}  // namespace pagetrap::bench::rivals
