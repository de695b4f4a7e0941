// Tables: the pages of a store that are the heap's own numbers and bits: no word of them is a
// pointer, whatever it looks like. Found when a store is opened, by those who need to know.
#pragma once

#include <vector>

#include "store/pages/committed_pages.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

class Tables {
 public:
  static Result<Tables> create(std::size_t reserve_pages);

  /// Of the store as it was opened. The header's pages are in the image. EBADMSG: the map's
  /// directory makes no sense.
  Outcome find(CommittedPages& committed);
  void add(PageNumber page) noexcept { is_table_[page] = true; }
  [[nodiscard]] bool has(PageNumber page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return is_table_[page];
  }

 private:
  Outcome add_all(CommittedPages& committed, std::vector<PageNumber>& numbers);
  SparseArray<bool> is_table_;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
