// What the cuts that lift have in common.
#pragma once

#include <algorithm>
#include <cstddef>

#include <pagetrap/vm/region.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

inline constexpr unsigned kPatience = 50;  // refusals in a row, before the slow way is taken

/// `part`, from the front of `region`, and what has to be lifted with it: whole subtrees of page
/// tables (1 GiB) move in one step.
inline PageRange lifted_with(const Region& region, PageRange part) noexcept {
  constexpr std::size_t kSubtree = std::size_t{1} << 30;
  const std::size_t whole = (part.size_bytes() + kSubtree - 1) & ~(kSubtree - 1);
  return {part.base, pages_for(std::min(whole, region.size_bytes()))};
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
