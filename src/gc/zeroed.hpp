// Zeroed memory of the collector's own, taken as it is touched.
#pragma once

#include <sys/mman.h>

#include <cstddef>

#include <pagetrap/core/result.hpp>

#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// At least so many bytes, private and zero. No memory is committed until it is touched.
inline Result<sys::Mapping> zeroed_memory(std::size_t size_bytes) {
  sys::Mapping::Request request;
  request.size_bytes = bytes(pages_for(size_bytes));
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  return sys::Mapping::create(request);
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
