// The words that every fault looks at and that hardly ever change, in one cache line: after a TLB
// flush, which protecting a page brings, each page of data touched costs a walk.
#pragma once

#include <atomic>
#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

struct alignas(64) Switches {
  std::atomic<std::uint64_t> traced_kinds{0};     // a bit for each trace::Kind that is on
  std::atomic<std::uint32_t> region_key_bits{0};  // rights bits of all keys that belong to regions
  std::atomic<int> injected_call{0};              // the Call that a test makes fail
};

extern PAGETRAP_API Switches switches;

}  // namespace pagetrap::sys
