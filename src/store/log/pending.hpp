// PendingRuns: what recovery found in the log and the data pages do not have yet, by page. A page
// gets its runs when it is loaded, so that opening a store takes the time of reading the log, and
// not of reading the data.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "store/format/layout.hpp"
#include "store/memory.hpp"
#include "store/outcome.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

class PendingRuns {
 public:
  static Result<PendingRuns> create(std::size_t pages, std::size_t log_bytes);

  /// The place for the next record's payload, of any length the log can have.
  [[nodiscard]] std::byte* next_payload() noexcept { return payloads_.data() + used_; }
  /// Adds the record whose payload is at next_payload(). False if it is nonsense; nothing of it is
  /// added then.
  [[nodiscard]] bool add(std::size_t payload_bytes);

  /// Brings `contents`, which are the data's, to the end of the log. The runs of a page are applied
  /// in the order in which they were committed.
  void apply(PageNumber page, std::byte* contents) const noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] bool has(PageNumber page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return first_[page] != 0;
  }
  /// All pages that have runs, each once.
  [[nodiscard]] std::span<const PageNumber> pages() const noexcept { return pages_; }

 private:
  struct Link {
    std::uint32_t next = 0;  // index of the link + 1; 0: the last one
    std::uint32_t word = 0;  // of the run, in 8 bytes from the payloads' begin
  };
  SparseArray<std::byte> payloads_;
  std::size_t used_ = 0;
  SparseArray<std::uint32_t> first_;  // by page: index of a link + 1
  SparseArray<std::uint32_t> last_;
  std::vector<Link> links_;
  std::vector<PageNumber> pages_;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
