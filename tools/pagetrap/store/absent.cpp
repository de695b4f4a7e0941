// Linked when the room store is not part of the build.
#include <cstdio>

#include "../commands.hpp"

namespace pagetrap::tool {

namespace {

int refuse() {
  std::fputs(
      "pagetrap: this command was built without stores, since a library was missing; install "
      "libxxhash-dev and build again\n",
      stderr);
  return kUnable;
}

}  // namespace

int store_stat(const StoreRequest& /*request*/) { return refuse(); }
int store_check(const StoreRequest& /*request*/) { return refuse(); }
int store_dump(const StoreRequest& /*request*/) { return refuse(); }
int store_compact(const StoreRequest& /*request*/) { return refuse(); }

}  // namespace pagetrap::tool
