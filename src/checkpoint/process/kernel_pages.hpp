// The vdso and what belongs to it: code and data that the kernel maps into every process.
#pragma once

#include "checkpoint/process/calls.hpp"
#include "checkpoint/process/census.hpp"
#include "checkpoint/process/ranges.hpp"
#include "checkpoint/process/record.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// Calls that move them from `from` to `place`, piece by piece.
void move_kernel_pages(const Run& from, std::uint64_t place, CallList& list);

/// Calls that move them from `place`, where those at `from` were moved, to where the process has
/// them. Precondition: kernel_pages_fit().
void place_kernel_pages(const Record& record, const Run& from, std::uint64_t place, CallList& list);

/// Whether this kernel's are as the image's, byte for byte.
bool kernel_pages_fit(const Record& record);

/// Where they are not, this kernel's stay where they are put, and the process finds this at the
/// place of its old vdso: jumps to the new one, function by function.
struct LeadingVdso {
  Run place;  // empty: the process has none
  std::vector<std::byte> bytes;
};
/// `from`, `place`: as above. What is missing here is refused.
LeadingVdso lead_to_new_vdso(const Record& record, const Run& from, std::uint64_t place,
                             Refusals& refusals);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
