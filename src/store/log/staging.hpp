// The staging area as it was read.
#pragma once

#include <array>
#include <vector>

#include "store/disk/disk.hpp"
#include "store/format/layout.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

struct alignas(kPageBytes) Page {
  std::array<std::byte, kPageBytes> bytes;
};

struct Staged {
  std::vector<StagedPage> entries;
  std::vector<Page> pages;
};

/// Empty unless all of it is intact.
Result<Staged> read_staging(Disk& disk, const Superblock& block);

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
