// Linked when the room gc is not part of the build.
#include "../../text/screen.hpp"
#include "../chapter.hpp"

namespace pagetrap::tool {

bool tell_gc(const TourPace& /*pace*/) {
  print_paragraph("This command was built without the collected heap.");
  return true;
}

}  // namespace pagetrap::tool
