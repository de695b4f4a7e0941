// Power failures: every legal state of the medium, of runs that are recorded.
#pragma once

#include <cstdint>
#include <string>

#include <pagetrap/store/options.hpp>

#include "store/disks.hpp"

namespace campaign {

struct PowerOptions {
  std::uint64_t states = 1000;
  std::uint64_t seed = 1;
  std::uint64_t steps = 150;  // recorded at a time
  pagetrap::store::Tearing tearing = pagetrap::store::Tearing::sectors;
  pagetrap::store::Bug bug = pagetrap::store::Bug::none;
  pagetrap::store::Detect detect = pagetrap::store::Detect::best;
  std::uint64_t most_failures = 1;  // until it stops
};

struct PowerResult {
  std::uint64_t states = 0;
  std::uint64_t recordings = 0;
  std::uint64_t failures = 0;
  std::uint64_t staged = 0;  // states in the middle of a checkpoint's pages
  std::uint64_t tails = 0;   // states with a commit that was cut off
  std::string first_failure{};
};

/// Records runs, one beginning where a power failure of the one before left the medium, and looks
/// at states of each.
PowerResult fail_power(const PowerOptions& options);

}  // namespace campaign
