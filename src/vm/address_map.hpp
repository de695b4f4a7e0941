// AddressMap: from an address to the region that holds it, inside a fault.
//
// A radix tree shaped like the page tables it stands beside: 4 levels of 512 entries over 36 bits
// of page number, an entry at any level may be a leaf. Lookup is at most 4 loads, whatever the
// number of regions; it takes no lock and allocates nothing. Nodes are never freed (a reader may be
// in one): at most one node for each 2 MiB, 1 GiB and 512 GiB of address space ever used.
//
// Rejected: a sorted array replaced by pointer (100,000 registrations copy 80 GB), a balanced tree
// (log n dependent misses, and rebalancing under readers needs epochs).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {
struct RegionState;

class AddressMap {
 public:
  /// The region published at `address`, or null. The pointer stays dereferenceable for ever
  /// (RegionState is type-stable) but may be another region by the time it is used: see pin().
  [[nodiscard]] RegionState* find(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE {
    std::uint64_t page = reinterpret_cast<std::uintptr_t>(address) >> page_shift();
    if ((page >> kPageNumberBits) != 0) return nullptr;
    const Node* node = &root_;
    for (unsigned shift = kPageNumberBits - kBits;; shift -= kBits) {
      const std::uintptr_t entry =
          (*node)[(page >> shift) & (kEntries - 1)].load(std::memory_order_acquire);
      if ((entry & kLeaf) != 0) return reinterpret_cast<RegionState*>(entry & ~kLeaf);
      if (entry == 0 || shift == 0) return nullptr;
      node = reinterpret_cast<const Node*>(entry);
    }
  }

  /// Publish `state` for `range`. The range overlaps no published one. Not signal-safe; callers
  /// exclude each other. Returns false if the range lies beyond 48 bits of address.
  bool publish(PageRange range, RegionState* state);

  /// Whether anything is published in `range`. Not signal-safe; excludes publish and withdraw.
  [[nodiscard]] bool any_in(PageRange range) const;

  /// Take `range` out. Same rules. Readers that found it before may still be using it.
  void withdraw(PageRange range) noexcept;

 private:
  static constexpr unsigned kBits = 9;
  static constexpr unsigned kPageNumberBits = 36;
  static constexpr std::uint64_t kEntries = 1 << kBits;
  static constexpr std::uintptr_t kLeaf = 1;
  using Node = std::array<std::atomic<std::uintptr_t>, kEntries>;

  void store(Node& node, unsigned shift, std::uint64_t first, std::uint64_t last,
             std::uintptr_t entry);

  static bool any(const Node& node, unsigned shift, std::uint64_t first, std::uint64_t last);

  Node root_{};
};

/// The process's map.
extern AddressMap g_address_map;

}  // namespace v0
}  // namespace pagetrap
