#include "gc/marks.hpp"

#include <sys/mman.h>

namespace pagetrap {
inline namespace v0 {
namespace gc {

Outcome Marks::create(std::size_t pages) {
  sys::Mapping::Request request;
  request.size_bytes = bytes(pages_for(pages * sizeof(PageMarks)));
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  auto memory = sys::Mapping::create(request);
  if (!memory) return memory.error();
  memory_ = std::move(*memory);
  sys::name_mapping(memory_.range(), "pagetrap:gc-marks");
  pages_ = reinterpret_cast<PageMarks*>(memory_.data());
  return kDone;
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
