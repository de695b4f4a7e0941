#include "gc/marks.hpp"

#include "gc/zeroed.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

Outcome Marks::create(std::size_t pages) {
  auto memory = zeroed_memory(pages * sizeof(PageMarks));
  if (!memory) return memory.error();
  memory_ = std::move(*memory);
  sys::name_mapping(memory_.range(), "pagetrap:gc-marks");
  pages_ = reinterpret_cast<PageMarks*>(memory_.data());
  return kDone;
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
