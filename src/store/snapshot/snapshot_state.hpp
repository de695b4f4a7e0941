// SnapshotState: an open snapshot: its addresses, and the handler that loads them.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include <pagetrap/store/snapshot.hpp>
#include <pagetrap/vm/region.hpp>

#include "store/heap/heap.hpp"
#include "store/snapshot/snapshot_pages.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

class SnapshotState {
 public:
  static Result<std::unique_ptr<SnapshotState>> open(const std::string& path,
                                                     const SnapshotOptions& options);

  Result<bool> refresh();
  Result<void*> find_root(std::string_view name, const TypeMark& mark);
  std::vector<Root> roots();
  Outcome load(const void* address, std::size_t length);
  [[nodiscard]] std::uint64_t commits() const noexcept { return pages_->log().commits; }
  [[nodiscard]] PageRange range() const noexcept { return region_.range(); }

 private:
  static constexpr std::size_t kBuffers = 8;
  static constexpr std::size_t kAhead = 16;  // pages at once, at multiples of it
  SnapshotState(std::unique_ptr<SnapshotPages> pages, std::byte* base,
                std::size_t reserve_pages) noexcept
      : pages_(std::move(pages)), heap_(base, reserve_pages) {}
  [[nodiscard]] Outcome check_process() const noexcept;
  Outcome map();
  Outcome check_heap(bool& is_empty);
  Outcome verify_all();
  Outcome drop(const SnapshotPages::Changes& changes);
  static Verdict on_fault(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;
  Outcome load_page(PageNumber page) noexcept PAGETRAP_SIGNAL_SAFE;
  std::size_t claim_buffer() noexcept PAGETRAP_SIGNAL_SAFE;

  std::unique_ptr<SnapshotPages> pages_;
  Heap heap_;
  sys::Mapping own_;  // in front of the data
  SparseArray<std::byte> buffers_;
  std::array<std::atomic<bool>, kBuffers> taken_{};
  std::atomic<PageNumber> last_{0};
  bool is_empty_ = false;  // made, and never opened by a writer
  unsigned process_ = 0;
  Region region_;  // last: its handler uses all of that
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
