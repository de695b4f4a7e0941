// The way back of a thread on an errand: a signal frame, as the kernel makes them. If the tracer is
// killed meanwhile, the thread goes on with what it did by itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <pagetrap/core/result.hpp>

#include "checkpoint/process/tracee.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// Bytes of a frame for this thread, to be put at `address`, a multiple of 64. Its stack pointer
/// for rt_sigreturn(2) is address + 8.
std::vector<std::byte> way_back(const Tracee& tracee, std::uint64_t address);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
