// Linked when the room compress, or the benchmarks with its rival, are not part of the build.
#include "../../text/screen.hpp"
#include "../chapter.hpp"

namespace pagetrap::tool {

bool tell_compress(const TourPace& /*pace*/) {
  print_paragraph(
      "Left out: this command was built without compressed memory, since a library was missing. "
      "Install liblz4-dev, libzstd-dev and libxxhash-dev and build again.");
  return true;
}

}  // namespace pagetrap::tool
