// Linked when the room store is not part of the build.
#include "../../text/screen.hpp"
#include "../chapter.hpp"

namespace pagetrap::tool {

bool tell_store(const TourPace& /*pace*/) {
  print_paragraph(
      "This command was built without persistent stores: libxxhash-dev is missing. Install it and "
      "build again.");
  return true;
}

}  // namespace pagetrap::tool
