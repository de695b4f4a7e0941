// Linked where whole processes cannot be saved.
#include "../../text/screen.hpp"
#include "../chapter.hpp"

namespace pagetrap::tool {

bool tell_restart(const TourPace& /*pace*/) {
  print_paragraph(
      "This command was built without checkpoints of processes: they need an x86-64 processor, and "
      "liblz4-dev, libzstd-dev and libxxhash-dev. Install what is missing and build again.");
  return true;
}

}  // namespace pagetrap::tool
