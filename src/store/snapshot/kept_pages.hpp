// KeptPages: a snapshot's side of the history: which pages were overwritten since it was taken, and
// where they are as they were then.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "store/format/history.hpp"
#include "store/memory.hpp"
#include "store/outcome.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

class KeptPages {
 public:
  KeptPages() = default;
  ~KeptPages();
  KeptPages(const KeptPages&) = delete;
  KeptPages& operator=(const KeptPages&) = delete;

  /// `pages`: that the store may ever have.
  Outcome create(const std::string& store_path, std::uint64_t seed, std::uint64_t inode,
                 std::size_t pages);
  [[nodiscard]] std::size_t pages() const noexcept { return pages_; }
  /// Where the history ends now, in pages.
  Outcome find_end(std::uint64_t& end) noexcept PAGETRAP_SIGNAL_SAFE;
  /// From now on only what comes from there on is of interest. Nobody may be reading pages.
  void start_at(std::uint64_t end) noexcept;

  /// Looks for what has been added since the last time.
  Outcome look() noexcept PAGETRAP_SIGNAL_SAFE;
  /// As of the last look.
  [[nodiscard]] bool has(PageNumber page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return place_[page].load(std::memory_order_acquire) != kNowhere;
  }
  /// Its contents, verified. Precondition: has().
  Outcome read(PageNumber page, std::byte* to) const noexcept PAGETRAP_SIGNAL_SAFE;
  /// Appends those that has() knows.
  Outcome list(std::vector<PageNumber>& pages) const;

 private:
  static constexpr std::uint32_t kNowhere = 0;
  static constexpr std::uint32_t kZeroes = ~std::uint32_t{0};
  Outcome open() noexcept PAGETRAP_SIGNAL_SAFE;
  Outcome scan(std::uint64_t end) noexcept PAGETRAP_SIGNAL_SAFE;
  Outcome scan_batch(std::uint64_t& at) noexcept PAGETRAP_SIGNAL_SAFE;
  template <class Visit>
  Outcome for_each_entry(std::uint64_t& at, Visit&& visit) const noexcept PAGETRAP_SIGNAL_SAFE;

  std::string path_;
  std::uint64_t seed_ = 0;
  std::uint64_t inode_ = 0;
  std::size_t pages_ = 0;
  std::atomic<int> file_{-1};  // opened when there is one
  std::atomic<bool> scanning_{false};
  std::uint64_t first_ = kFirstHistoryPage;  // what comes before is of no interest
  std::atomic<std::uint64_t> scanned_{kFirstHistoryPage};
  SparseArray<std::atomic<std::uint32_t>> place_;  // by page: in the history, in pages
  SparseArray<std::uint64_t> sums_;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
