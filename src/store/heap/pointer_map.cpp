#include "store/heap/pointer_map.hpp"

#include <algorithm>
#include <cstring>
#include <new>

namespace pagetrap {
inline namespace v0 {
namespace store {

void Retyped::note_words(std::uint64_t place, std::uint64_t bytes) noexcept {
  try {
    words.push_back({place, bytes});
  } catch (const std::bad_alloc&) {
    lost = true;
  }
}

void Retyped::note_table(PageNumber page) noexcept {
  note_words(std::uint64_t{page} * kPageBytes, kPageBytes);
  try {
    tables.push_back(page);
  } catch (const std::bad_alloc&) {
    lost = true;
  }
}

void Retyped::clear() noexcept {
  words.clear();
  tables.clear();
  lost = false;
}

bool PointerMap::create() noexcept {
  const PageNumber directory = new_table(directory_pages(reserve_pages_));
  if (directory == 0) return false;
  header().map_directory = directory;
  return true;
}

void PointerMap::forget() noexcept {
  HeapHeader& all = header();
  const auto release = [&](PageNumber page, std::size_t count) {
    if (page != 0) runs_.free(page, count);
  };
  for (std::size_t i = 0; i < directory_entries(reserve_pages_); ++i) {
    const PageNumber leaf = numbers(all.map_directory)[i];
    for (std::size_t j = 0; leaf != 0 && j < kLeafEntries; ++j) release(numbers(leaf)[j], 1);
    release(leaf, 1);
  }
  release(all.map_directory, directory_pages(reserve_pages_));
  all.map_directory = 0;
  all.map_covered = 0;
}

bool PointerMap::cover() noexcept {
  HeapHeader& all = header();
  if (all.map_directory == 0) return true;
  // What is added for it is used as well: the end comes nearer by 63 pages of 64.
  while (all.map_covered * kMappedPages < all.used_pages) {
    if (!cover_chunk(all.map_covered)) return false;
    all.map_covered += 1;
  }
  return true;
}

bool PointerMap::cover_chunk(std::uint64_t chunk) noexcept {
  PageNumber& leaf = numbers(header().map_directory)[chunk / kLeafEntries];
  if (leaf == 0) {
    const PageNumber made = new_table(1);
    if (made == 0) return false;
    runs_.changing(&leaf, sizeof leaf);
    leaf = made;
  }
  PageNumber& table = numbers(leaf)[chunk % kLeafEntries];
  const PageNumber made = new_table(1);
  if (made == 0) return false;
  runs_.changing(&table, sizeof table);
  table = made;
  return true;
}

// Pages that were a program's before may have anything in them, and bits.
PageNumber PointerMap::new_table(std::size_t pages) noexcept {
  static constexpr std::byte kZeroes[kPageBytes]{};
  const PageNumber first = runs_.allocate(pages);
  for (auto page = first; first != 0 && page < first + pages; ++page) {
    if (std::memcmp(runs_.address(page), kZeroes, kPageBytes) != 0) {
      runs_.changing(runs_.address(page), kPageBytes);
      std::memset(runs_.address(page), 0, kPageBytes);
    }
    for (std::uint64_t i = 0; page / kMappedPages < header().map_covered && i < kWordsOfPage;
         i += 64)
      write(std::uint64_t{page} * kWordsOfPage + i, ~std::uint64_t{0}, 0);
    if (retyped_ != nullptr) retyped_->note_table(page);
  }
  return first;
}

std::uint64_t& PointerMap::bits_of(std::uint64_t index) const noexcept {
  const std::uint64_t page = index / kWordsOfPage;
  const std::uint64_t chunk = page / kMappedPages;
  const PageNumber leaf = numbers(header().map_directory)[chunk / kLeafEntries];
  const PageNumber table = numbers(leaf)[chunk % kLeafEntries];
  auto* const bits = reinterpret_cast<std::uint64_t*>(runs_.address(table));
  return bits[index % (kMappedPages * kWordsOfPage) / 64];
}

void PointerMap::write(std::uint64_t index, std::uint64_t mask, std::uint64_t value) noexcept {
  std::uint64_t& bits = bits_of(index);
  const std::uint64_t changed = (bits ^ value) & mask;
  // A page that is not written costs no fault and no comparison.
  if (changed == 0) return;
  runs_.changing(&bits, sizeof bits);
  bits ^= changed;
  if (retyped_ != nullptr) retyped_->note_words(index / 64 * 64 * 8, 64 * 8);
}

void PointerMap::set(void* block, std::size_t block_bytes, std::size_t elements,
                     const TypeMap& type) noexcept {
  const std::uint64_t first = runs_.place_of(block) / 8;
  const std::uint64_t end = first + block_bytes / 8;
  std::uint64_t element = 0;
  std::size_t next = 0;  // of the element's pointers
  for (std::uint64_t at = first / 64 * 64; at < end; at += 64) {
    const std::uint64_t from = std::max(at, first) - at;
    const std::uint64_t to = std::min(at + 64, end) - at;
    const std::uint64_t mask = ~std::uint64_t{0} >> (64 - (to - from)) << from;
    std::uint64_t bits = 0;
    while (type.count != 0 && element < elements) {
      const std::uint64_t word = first + element * type.element_words + type.words[next];
      if (word >= at + 64) break;
      bits |= std::uint64_t{1} << (word - at);
      if (++next < type.count) continue;
      next = 0;
      ++element;
    }
    write(at, mask, bits);
  }
}

void PointerMap::mark(void* word) noexcept {
  const std::uint64_t index = runs_.place_of(word) / 8;
  const std::uint64_t bit = std::uint64_t{1} << (index % 64);
  write(index, bit, bit);
}

bool PointerMap::is_marked(std::uint64_t place) const noexcept {
  const std::uint64_t index = place / 8;
  if (!exists() || place / kPageBytes / kMappedPages >= header().map_covered) return false;
  return (bits_of(index) >> (index % 64) & 1) != 0;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
