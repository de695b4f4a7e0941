#include "checkpoint/process/critical_section.hpp"

#include <cstddef>

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

Result<Done> leave_critical_section(pid_t process, const Thread& thread, Registers& registers) {
  if (thread.rseq == 0) return Done{};
  std::uint64_t descriptor = 0;
  auto read = read_memory(process, thread.rseq + kDescriptorAt,
                          std::as_writable_bytes(std::span(&descriptor, 1)));
  if (!read || descriptor == 0) return read;
  CriticalSection section{};
  // A descriptor that cannot be read is the program's mistake, for which the kernel ends it.
  if (!read_memory(process, descriptor, std::as_writable_bytes(std::span(&section, 1))))
    return Done{};
  if (registers.rip - section.start < section.length) registers.rip = section.abort;
  return Done{};
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
