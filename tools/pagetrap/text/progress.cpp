#include "progress.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace pagetrap::tool {

namespace {
constexpr const char* kWipe = "\r\033[K";
}

Progress::Progress() : visible_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (dirty_) std::fputs(kWipe, stderr);
}

void Progress::show(std::string_view text) {
  if (!visible_) return;
  std::fflush(stdout);  // what was printed before must stand above
  std::fprintf(stderr, "%s%.*s", kWipe, static_cast<int>(text.size()), text.data());
  std::fflush(stderr);
  dirty_ = true;
}

}  // namespace pagetrap::tool
