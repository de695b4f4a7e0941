#include "checkpoint/process/critical_section.hpp"

#include <sys/ptrace.h>

#include <cstddef>
#include <cstdint>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

// SOURCE linux/rseq.h
struct CriticalSection {
  std::uint32_t version;
  std::uint32_t flags;
  std::uint64_t start;
  std::uint64_t length;  // to what is past the commit
  std::uint64_t abort;
};
constexpr std::uint64_t kDescriptorAt = 8;  // in struct rseq

}  // namespace

Result<Done> leave_critical_section(pid_t process, Tracee& tracee) {
  __ptrace_rseq_configuration rseq{};
  const long got = ::ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tracee.thread,
                            reinterpret_cast<void*>(sizeof rseq), &rseq);
  if (got <= 0 || rseq.rseq_abi_pointer == 0) return Done{};
  std::uint64_t descriptor = 0;
  auto read = read_memory(process, rseq.rseq_abi_pointer + kDescriptorAt,
                          std::as_writable_bytes(std::span(&descriptor, 1)));
  if (!read || descriptor == 0) return read;
  CriticalSection section{};
  // A descriptor that cannot be read is the program's mistake, for which the kernel ends it.
  if (!read_memory(process, descriptor, std::as_writable_bytes(std::span(&section, 1))))
    return Done{};
  if (tracee.registers.rip - section.start >= section.length) return Done{};
  tracee.registers.rip = section.abort;
  tracee.changed = true;
  return Done{};
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
