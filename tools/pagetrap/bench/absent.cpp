// Linked when the benchmarks are not part of the build.
#include <cstdio>

#include "../commands.hpp"

namespace pagetrap::tool {

int bench(const BenchRequest& /*request*/) {
  std::fputs(
      "pagetrap: this command was built without the benchmarks; configure with "
      "-DPAGETRAP_BENCH=ON (./run does) and build again\n",
      stderr);
  return kUnable;
}

bool bench_is_linked() noexcept { return false; }

}  // namespace pagetrap::tool
