// TRAP, PROT and UNPROT by mprotect(2) and SIGSEGV, as an expert writes them for one range: the
// handler is a compare, a system call and a counter.
#pragma once

#include <cstddef>
#include <cstdint>

#include "harness/mapping.hpp"
#include "rivals/handler_swap.hpp"

namespace pagetrap::bench::rivals {

/// One at a time in a process: its handler finds it by a global.
class MprotectTrap {
 public:
  static constexpr const char* kName = "mprotect + SIGSEGV by hand";

  explicit MprotectTrap(std::size_t size_bytes);
  ~MprotectTrap();
  MprotectTrap(const MprotectTrap&) = delete;
  MprotectTrap& operator=(const MprotectTrap&) = delete;

  [[nodiscard]] std::byte* page(std::size_t index) const noexcept { return memory_.page(index); }
  [[nodiscard]] Mapping& memory() noexcept { return memory_; }

  /// PROT1, PROTN: no writes. False if the kernel refuses.
  bool protect(std::byte* from, std::size_t size_bytes) noexcept;

  /// Faults of the calling thread so far. Per thread, so that threads do not share a cache line.
  [[nodiscard]] static std::uint64_t faults() noexcept;

  /// Keep a list of the pages that faulted: the tracking of writes. nullptr: no list.
  void record_into(std::byte** list) noexcept;
  [[nodiscard]] static std::size_t recorded() noexcept;
  static void forget_recorded() noexcept;

  /// errno of the first mprotect that failed inside the handler; 0 if none. The whole range has
  /// then been made writable, so that the program could go on.
  [[nodiscard]] static int failure() noexcept;

  /// For the time that this lives, the handler is in place.
  class Armed {
   public:
    Armed() noexcept;

   private:
    HandlerSwap swap_;
  };

 private:
  Mapping memory_;
};

}  // namespace pagetrap::bench::rivals
