// FaultRing: the addresses of page faults that the kernel resolved, in perf's ring buffers.
//
// SOURCE perf_event_open(2): the software events PAGE_FAULTS_MIN and _MAJ with a sample for each
// fault. One event per thread, CPU and kind, inherited by threads born later
// (inherit_thread, 5.13), all of one CPU writing to one ring.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <pagetrap/core/result.hpp>

#include "sys/fd.hpp"
#include "sys/mapping.hpp"

namespace pagetrap::sys {

class PAGETRAP_API FaultRing {
 public:
  /// Rings for all threads of the process. Faults inside system calls are sampled where the user
  /// may (perf_event_paranoid <= 1 or CAP_PERFMON), else only those of user code.
  static Result<FaultRing> open();

  FaultRing(FaultRing&&) noexcept = default;
  FaultRing& operator=(FaultRing&&) noexcept = default;

  /// Appends the addresses sampled since the last call; returns how many samples there were. Not
  /// for concurrent use.
  std::size_t drain(std::vector<std::byte*>& out);
  /// Forgets the samples there are, and losses. Allocates nothing.
  void skip() noexcept;
  /// Whether the kernel reported a sample that it had no room for.
  [[nodiscard]] bool lost() const noexcept { return lost_; }
  [[nodiscard]] bool samples_kernel() const noexcept { return samples_kernel_; }

 private:
  FaultRing() = default;
  struct PerCpu {
    Mapping memory;
    std::uint64_t read_to = 0;
  };
  int attach(std::uint64_t config, int thread, int cpu, int& output);
  std::vector<Descriptor> events_;
  std::vector<PerCpu> rings_;
  bool samples_kernel_ = false;
  bool lost_ = false;
};

/// Page faults that all threads of this process have completed, minor and major, as getrusage(2)
/// counts them: those resolved inside the kernel included, whether sampled or not.
PAGETRAP_API std::uint64_t completed_faults() noexcept;

}  // namespace pagetrap::sys
