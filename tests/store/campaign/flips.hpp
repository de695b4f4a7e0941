// Single damaged bytes: each is found, or does not matter. None is silent.
#pragma once

#include <cstdint>
#include <string>

namespace campaign {

struct FlipOptions {
  std::uint64_t flips = 1000;
  std::uint64_t seed = 1;
};
struct FlipResult {
  std::uint64_t flips = 0;
  std::uint64_t refused = 0;   // an error that names the place
  std::uint64_t harmless = 0;  // everything is there: a spare copy, or nothing of worth
  std::uint64_t silent = 0;    // something else is there, and nobody says so
  std::string first_silent{};
};

/// Stores closed cleanly and not, with full logs and nearly empty ones.
FlipResult flip_bytes(const FlipOptions& options);

}  // namespace campaign
