// FilePages: what the last image has in pages that belong to mappings of files. Their writes are
// not tracked: a mark that the kernel leaves in the place of a file's page cannot be told from a
// page swapped out. There are few (relocations, static data), so that they are compared.
#pragma once

#include <cstdint>
#include <unordered_map>

#include <pagetrap/core/result.hpp>

#include "checkpoint/image/checksum.hpp"
#include "checkpoint/process/memory_cut.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

class FilePages {
 public:
  /// Notes those of memory.wanted that lie in `files`, and takes out of it what the last image has.
  /// `full`: nothing is taken out. Costs a read of each.
  Result<Done> compare(const Runs& files, bool full, MemoryCut& memory);

  /// How many there were.
  [[nodiscard]] std::size_t count() const noexcept { return known_.size(); }

 private:
  std::unordered_map<std::uint64_t, ContentHash> known_;  // by address
};

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
