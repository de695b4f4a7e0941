// The superblock: two slots that say the same. Written one after the other, so that one of them is
// whole at any instant.
#pragma once

#include <span>

#include "store/disk/disk.hpp"
#include "store/format/layout.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

struct FoundSuperblock {
  Superblock block;
  unsigned intact = 0;  // slots, 1 or 2
};

/// The newest intact one, and whether it makes sense beside the length of the file.
Result<FoundSuperblock> read_superblock(Disk& disk);

/// Both slots, each durably.
Outcome write_superblock(Disk& disk, const Superblock& block);

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
