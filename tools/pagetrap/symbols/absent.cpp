// In place of symbols.cpp, where libbacktrace is not there.
#include <cstdio>

#include "../commands.hpp"

namespace pagetrap::tool {

int symbols() {
  std::fputs(
      "pagetrap: symbols: built without libbacktrace\napt-get install libgcc-12-dev, and build "
      "again.\n",
      stderr);
  return kUnable;
}

}  // namespace pagetrap::tool
