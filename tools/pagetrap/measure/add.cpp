// The paper's unit: how long one ADD takes.
#include <algorithm>
#include <cstdint>

#include "primitives.hpp"

namespace pagetrap::tool {
namespace {

/// The empty statement makes the compiler believe that `sum` changed: it can neither leave an
/// addition out nor merge two.
inline void add_once(std::uint64_t& sum, std::uint64_t addend) {
  sum += addend;
  asm volatile("" : "+r"(sum));
}

}  // namespace

double measure_add() {
  constexpr int kRounds = 20;
  constexpr int kLoops = 20'000;
  constexpr int kChain = 16;  // so that counting the loop does not count
  std::uint64_t sum = 0;
  std::uint64_t addend = 3;
  asm volatile("" : "+r"(addend));  // not a constant: some processors add constants for nothing
  double best = 1e30;
  for (int round = 0; round < kRounds; ++round) {
    const double begin = now_ns();
    for (int loop = 0; loop < kLoops; ++loop) {
      for (int link = 0; link < kChain; ++link) add_once(sum, addend);
    }
    // The least: nothing makes an ADD faster than it is, and much makes it slower.
    best = std::min(best, now_ns() - begin);
  }
  return best / kLoops / kChain;
}

}  // namespace pagetrap::tool
