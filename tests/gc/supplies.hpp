// The page supplies that a suite runs over.
#pragma once

#include <string>
#include <vector>

#include <pagetrap/gc/gc.hpp>

namespace pagetrap {

/// ThreadSanitizer holds signals back until a thread calls something that it knows: it gets the
/// supply that needs none but to stop threads, which look for themselves when they allocate.
inline std::vector<gc::PageSupply> tested_supplies() {
  if (SANITIZED_THREADS != 0) return {gc::PageSupply::none};
  return {gc::PageSupply::uffd_minor, gc::PageSupply::uffd_copy, gc::PageSupply::mprotect,
          gc::PageSupply::none};
}

inline std::string test_name(gc::PageSupply supply) {
  std::string name = gc::name(supply);
  std::erase(name, '-');
  return name;
}

}  // namespace pagetrap
