// Linked when the room checkpoint is not part of the build.
#include <cstdio>

#include "../commands.hpp"

namespace pagetrap::tool {

namespace {

int refuse() {
  std::fputs(
      "pagetrap: this command was built without checkpoints, since a library was missing; install "
      "liblz4-dev, libzstd-dev and libxxhash-dev and build again\n",
      stderr);
  return kUnable;
}

}  // namespace

int image_inspect(const ImageRequest& /*request*/) { return refuse(); }
int image_verify(const ImageRequest& /*request*/) { return refuse(); }
int image_merge(const ImageRequest& /*request*/) { return refuse(); }
int image_extract(const ImageRequest& /*request*/) { return refuse(); }

}  // namespace pagetrap::tool
