// Sets of addresses, as sorted runs that do not touch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

struct Run {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  friend bool operator==(const Run&, const Run&) = default;
};
using Runs = std::vector<Run>;

/// Sorted and joined.
Runs tidy(Runs runs);
Runs unite(const Runs& a, const Runs& b);
Runs intersect(const Runs& a, const Runs& b);
Runs subtract(const Runs& a, const Runs& b);
std::uint64_t size_bytes(const Runs& runs);

/// So many addresses that are not `taken`, far from where programs, their heaps and the kernel's
/// choices are; 0: there are none.
std::uint64_t find_hole(Runs taken, std::uint64_t bytes);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
