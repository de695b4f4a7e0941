// Memory for the tests of this folder.
#pragma once

#include <sys/mman.h>

#include "sys/mapping.hpp"

namespace pagetrap::sys {

/// Asks for private zeroes, `count` pages of them.
inline Mapping::Request anonymous_pages(std::size_t count, int prot) {
  Mapping::Request request;
  request.size_bytes = bytes(Pages{count});
  request.prot = prot;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  return request;
}

}  // namespace pagetrap::sys
