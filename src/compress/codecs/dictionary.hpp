// Dictionary: what the pages of a region have in common.
#pragma once

#include <cstddef>
#include <span>

#include <pagetrap/core/result.hpp>

#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

struct Dictionary {
  sys::Mapping memory;
  std::span<const std::byte> bytes;  // in memory
};

/// The best `capacity` bytes of `pages`, the most useful ones last; in zstd's format. EINVAL: too
/// few pages, or nothing in common.
Result<Dictionary> train_dictionary(std::span<const std::byte> pages, std::size_t capacity);

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
