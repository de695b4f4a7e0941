// StoredProcess: an image of a process, and those it builds on, opened for a restart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <pagetrap/core/result.hpp>

#include "checkpoint/image/chain.hpp"
#include "checkpoint/process/ranges.hpp"
#include "checkpoint/process/record.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// Pages side by side in memory and in a block.
struct StoredPages {
  std::uint64_t start = 0;  // address
  std::uint64_t end = 0;
  std::uint32_t block = 0;  // index in the chain's blocks
  std::uint32_t page_in_block = 0;
};

class StoredProcess {
 public:
  /// Headers, indexes and the record are checked; blocks when they are read. Errors  those of
  /// inspect_chain(); EBADMSG: it is no image of a process.
  static Result<std::unique_ptr<StoredProcess>> open(const std::string& path);

  [[nodiscard]] const Chain& chain() const noexcept { return *chain_; }
  [[nodiscard]] const Record& record() const noexcept { return record_; }
  /// Of the region "memory", by address. Pages in none are zero, or a file's.
  [[nodiscard]] const std::vector<StoredPages>& pages() const noexcept { return memory_; }

  /// The contents of an Object.
  Result<std::vector<std::byte>> contents(const Object& object) const;

 private:
  Result<Done> index();
  Result<std::vector<std::byte>> read(const std::vector<StoredPages>& where, std::uint64_t offset,
                                      std::uint64_t length) const;
  std::unique_ptr<Chain> chain_;
  std::vector<StoredPages> memory_;
  std::vector<StoredPages> record_pages_;
  std::vector<StoredPages> objects_;
  Record record_;
};

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
