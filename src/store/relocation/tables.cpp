#include "store/relocation/tables.hpp"

#include <cerrno>

#include "store/heap/pointer_map.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

Outcome nonsense(const CommittedPages& committed) {
  return {"pointer map of a store",
          EBADMSG,
          {},
          "its tables make no sense: pagetrap store check",
          static_cast<std::int64_t>(offset_of_page(committed.data_offset(), 0))};
}

}  // namespace

Result<Tables> Tables::create(std::size_t reserve_pages) {
  auto memory = SparseArray<bool>::create(reserve_pages);
  if (!memory) return memory.error();
  Tables made;
  made.is_table_ = std::move(*memory);
  return made;
}

Outcome Tables::find(CommittedPages& committed) {
  const auto& header = *reinterpret_cast<const HeapHeader*>(committed.image(0));
  const std::size_t pages = is_table_.size();
  const auto bitmaps =
      static_cast<PageNumber>((2 * ((pages + 63) / 64 * 8) + kPageBytes - 1) / kPageBytes);
  for (PageNumber page = kHotPages; page < kHotPages + bitmaps; ++page) add(page);
  if (header.magic != kHeapMagic || header.map_directory == 0) return kDone;
  if (header.used_pages > pages || header.map_covered * kMappedPages > pages + kMappedPages)
    return nonsense(committed);
  // The directory's pages, then the leaves that they name, then the map's.
  std::vector<PageNumber> numbers;
  for (PageNumber i = 0; i < directory_pages(pages); ++i)
    numbers.push_back(header.map_directory + i);
  const std::size_t leaves = (header.map_covered + kLeafEntries - 1) / kLeafEntries;
  for (const std::size_t entries : {leaves, std::size_t{header.map_covered}}) {
    if (const Outcome outcome = add_all(committed, numbers); failed(outcome)) return outcome;
    std::vector<PageNumber> next;
    for (std::size_t i = 0; i < entries; ++i) {
      const PageNumber table = numbers[i / kLeafEntries];
      next.push_back(reinterpret_cast<const PageNumber*>(committed.image(table))[i % kLeafEntries]);
    }
    numbers = std::move(next);
  }
  for (const PageNumber page : numbers) {
    if (page < kHotPages || page >= pages || has(page)) return nonsense(committed);
    add(page);
  }
  return kDone;
}

// Before they are loaded: that takes their words for what they are.
Outcome Tables::add_all(CommittedPages& committed, std::vector<PageNumber>& numbers) {
  for (const PageNumber page : numbers) {
    if (page < kHotPages || page >= is_table_.size() || has(page)) return nonsense(committed);
    add(page);
    if (const Outcome outcome = committed.materialise(page); failed(outcome)) return outcome;
  }
  return kDone;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
