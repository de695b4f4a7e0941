#include "pager/departures.hpp"

#include <sys/mman.h>

namespace pagetrap {
inline namespace v0 {
namespace pager {

Result<Done> Staging::create(const pagetrap::RegionOptions& like) {
  pagetrap::RegionOptions options = like;
  options.name = "pager staging";
  options.address = nullptr;
  auto region = pagetrap::Region::create(bytes(Pages{Departures::kBatches * kMostAtOnce}), options);
  if (!region) return region.error();
  region_ = std::move(*region);
  return Done{};
}

Result<Done> Departures::reserve() {
  sys::Mapping::Request request;
  request.size_bytes = bytes(Pages{kBatches * kMostAtOnce});
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  auto memory = sys::Mapping::create(request);
  if (!memory) return memory.error();
  copies_ = std::move(*memory);
  sys::name_mapping(copies_.range(), "pager departures");
  return Done{};
}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
