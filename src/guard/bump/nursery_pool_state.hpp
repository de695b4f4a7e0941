// What a NurseryPool is made of: one region of nurseries and guards in turns.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include <pagetrap/guard/nursery.hpp>
#include <pagetrap/vm/region.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// In front of the first nursery lies a guard too, for cursors that have no nursery yet.
struct NurseryPoolState {
  NurseryPoolState(Region memory, const NurseryOptions& asked, std::size_t rounded);

  [[nodiscard]] std::size_t stride() const noexcept PAGETRAP_SIGNAL_SAFE {
    return nursery_bytes + NurseryPool::kGuardBytes;
  }
  [[nodiscard]] std::byte* nursery(std::size_t index) const noexcept PAGETRAP_SIGNAL_SAFE {
    return region.data() + NurseryPool::kGuardBytes + index * stride();
  }
  /// The nursery that `cursor` belongs to, as far as its end; null: none.
  [[nodiscard]] std::byte* nursery_of(const std::byte* cursor) const noexcept PAGETRAP_SIGNAL_SAFE;

  std::byte* take() noexcept PAGETRAP_SIGNAL_SAFE;
  void give_back(const std::byte* base) noexcept PAGETRAP_SIGNAL_SAFE;
  /// A nursery after that of `cursor`; null: none.
  std::byte* next_after(std::byte* cursor) noexcept PAGETRAP_SIGNAL_SAFE;

  static Verdict on_fault(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;

  Region region;
  std::size_t nursery_bytes;
  NurseryOptions options;
  NurseryPool* pool = nullptr;                    // as refill gets it
  std::vector<std::atomic<std::uint64_t>> taken;  // a bit for each nursery
  std::atomic<std::size_t> refills{0};
};

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
