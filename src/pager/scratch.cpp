#include "pager/scratch.hpp"

#include <sys/mman.h>

namespace pagetrap {
inline namespace v0 {
namespace pager {

Result<Done> Scratch::reserve() {
  sys::Mapping::Request request;
  request.size_bytes = bytes(Pages{kBuffers * kMostAtOnce});
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  auto memory = sys::Mapping::create(request);
  if (!memory) return memory.error();
  memory_ = std::move(*memory);
  sys::name_mapping(memory_.range(), "pager scratch");
  return Done{};
}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
