// Linked when the benchmarks are part of the build.
#include "../../../bench/harness/bench.hpp"

#include "../commands.hpp"

namespace pagetrap::tool {

int bench(const BenchRequest& request) {
  bench::BenchOptions options;
  options.modules = request.modules;
  options.quick = request.quick;
  options.list = request.list;
  options.filter = request.filter;
  options.json_path = request.json_file;
  return bench::run(options);
}

bool bench_is_linked() noexcept { return true; }

}  // namespace pagetrap::tool
