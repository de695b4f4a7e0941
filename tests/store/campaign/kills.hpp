// SIGKILL at random instants of a program that commits all the time. The page cache survives it:
// this proves recovery and locks, not durability, which power.hpp does.
#pragma once

#include <cstdint>
#include <string>

namespace campaign {

struct KillOptions {
  std::uint64_t kills = 100;
  std::uint64_t seconds = 60;  // at most
  std::uint64_t seed = 1;
};
struct KillResult {
  std::uint64_t kills = 0;
  std::uint64_t while_opening = 0;
  std::uint64_t acknowledged = 0;  // commits, over all runs
  std::uint64_t recovered = 0;     // commits found in logs
  std::string wrong{};
};

KillResult kill_again_and_again(const KillOptions& options);

}  // namespace campaign
