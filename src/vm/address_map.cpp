#include "vm/address_map.hpp"

#include <algorithm>

namespace pagetrap {
inline namespace v0 {

constinit AddressMap g_address_map;

// Sets every slot covered by pages [first, last] to `entry` (a leaf, or 0 to withdraw), at the
// coarsest level that fits. `shift` is the size of one slot of `node`, as bits of page number.
void AddressMap::store(Node& node, unsigned shift, std::uint64_t first, std::uint64_t last,
                       std::uintptr_t entry) {
  const std::uint64_t slot_pages = std::uint64_t{1} << shift;
  for (std::uint64_t page = first; page <= last;) {
    const std::uint64_t slot_start = page & ~(slot_pages - 1);
    const std::uint64_t slot_last = slot_start + slot_pages - 1;
    const std::uint64_t end = std::min(slot_last, last);
    std::atomic<std::uintptr_t>& slot = node[(page >> shift) & (kEntries - 1)];
    const std::uintptr_t current = slot.load(std::memory_order_relaxed);
    const bool whole = page == slot_start && end == slot_last;
    // A slot that has a child keeps it even when covered whole: the node is never freed, and one
    // rule (leaves only where no child is) keeps withdraw() the mirror image of publish().
    if (whole && (current == 0 || (current & kLeaf) != 0)) {
      slot.store(entry, std::memory_order_release);
    } else if (current != 0 || entry != 0) {
      Node* child = reinterpret_cast<Node*>(current);
      if (child == nullptr) {
        child = new Node{};
        slot.store(reinterpret_cast<std::uintptr_t>(child), std::memory_order_release);
      }
      store(*child, shift - kBits, page, end, entry);
    }
    page = end + 1;
  }
}

bool AddressMap::any(const Node& node, unsigned shift, std::uint64_t first, std::uint64_t last) {
  for (std::uint64_t page = first; page <= last;) {
    const std::uint64_t slot_last = page | ((std::uint64_t{1} << shift) - 1);
    const std::uint64_t end = std::min(slot_last, last);
    const std::uintptr_t entry =
        node[(page >> shift) & (kEntries - 1)].load(std::memory_order_relaxed);
    if ((entry & kLeaf) != 0) return true;
    if (entry != 0 && any(*reinterpret_cast<const Node*>(entry), shift - kBits, page, end))
      return true;
    page = end + 1;
  }
  return false;
}

bool AddressMap::any_in(PageRange range) const {
  const std::uint64_t first = reinterpret_cast<std::uintptr_t>(range.base) >> page_shift();
  const std::uint64_t last = first + range.length.count() - 1;
  return (last >> kPageNumberBits) == 0 && any(root_, kPageNumberBits - kBits, first, last);
}

bool AddressMap::publish(PageRange range, RegionState* state) {
  const std::uint64_t first = reinterpret_cast<std::uintptr_t>(range.base) >> page_shift();
  const std::uint64_t last = first + range.length.count() - 1;
  if ((last >> kPageNumberBits) != 0) return false;
  store(root_, kPageNumberBits - kBits, first, last,
        reinterpret_cast<std::uintptr_t>(state) | kLeaf);
  return true;
}

void AddressMap::withdraw(PageRange range) noexcept {
  const std::uint64_t first = reinterpret_cast<std::uintptr_t>(range.base) >> page_shift();
  store(root_, kPageNumberBits - kBits, first, first + range.length.count() - 1, 0);
}

}  // namespace v0
}  // namespace pagetrap
