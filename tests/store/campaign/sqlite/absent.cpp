// Linked where CMake found no SQLite.
#include <cstdio>

#include "store/campaign/sqlite/power.hpp"

namespace campaign {

int sqlite_controls(std::uint64_t /*states*/, std::uint64_t /*seed*/) {
  std::fputs(
      "store_campaign: this was built without SQLite; install libsqlite3-dev, or all rivals by "
      "tools/install-rivals, and build again\n",
      stderr);
  return kWithoutSqlite;
}

}  // namespace campaign
