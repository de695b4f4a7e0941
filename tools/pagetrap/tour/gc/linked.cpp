// The collected heap: what it costs, what stands still, and what its pages do.
#include <cstdio>
#include <exception>
#include <string>

#include "../../text/screen.hpp"
#include "sections.hpp"

namespace pagetrap::tool {

bool tell_gc(const TourPace& pace) {
  std::printf("\n");
  print_paragraph(
      "Objects that nobody frees. The collector moves what is alive while the program runs, and no "
      "load or store of a reference has an instruction more than a plain pointer's: a page that "
      "has not been scanned yet is closed, and whoever touches it scans it in the fault handler.");
  try {
    const bool same = compare_collectors(pace);
    return show_live_index(pace) && same;
  } catch (const std::exception& error) {
    print_paragraph(std::string("It did not run: ") + error.what(), 2, 4, Style::bad);
    return false;
  }
}

}  // namespace pagetrap::tool
