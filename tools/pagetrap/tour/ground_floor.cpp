#include <cstdio>

#include "../commands.hpp"
#include "../text/screen.hpp"
#include "chapter.hpp"

namespace pagetrap::tool {

bool tell_ground_floor(const TourPace& pace) {
  std::printf("\n");
  print_paragraph(
      "TRAP: a handler of yours runs at a fault. PROT1, PROTN: take away the rights to one page or "
      "many. UNPROT: give them back. DIRTY: which pages were written? MAP2: the same page at two "
      "addresses with different rights.");
  bool right = tell_then_and_now(pace);
  right = tell_square_roots(pace) && right;
  return tell_break_even(pace) && right;
}

bool tell_break_even(const TourPace& pace) {
  print_heading("Should we use virtual memory at all?");
  print_paragraph(
      "Each of these can be had from instructions as well: a test before every access instead of a "
      "trap at a rare one. A fault costs thousands of such tests, so the question is how many "
      "accesses there are for each fault. Above the break-even the fault is cheaper.");
  std::printf("\n");
  if (!bench_is_linked()) {
    print_paragraph(
        "The table comes from the benchmarks, which this command was built without. Configure "
        "with -DPAGETRAP_BENCH=ON and run `pagetrap bench vm --filter vm.break_even --quick`.");
    return true;
  }
  BenchRequest request;
  request.modules = {"vm"};
  request.filter = "vm.break_even";
  request.quick = true;
  if (!pace.quick) {
    print_paragraph("(`pagetrap bench vm --filter vm.break_even` measures longer.)");
  }
  return bench(request) == kOk;
}

}  // namespace pagetrap::tool
