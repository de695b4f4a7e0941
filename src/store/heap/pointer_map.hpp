// PointerMap: which words of a store are pointers, one bit for each 8 bytes, in the store itself:
// it is changed, undone and recovered with what it is about.
//
//   header.map_directory -> directory: page number of a leaf, for each 256 MiB of the store
//                           leaf:      page number of a map page, for each 256 KiB of them
//                           map page:  512 bits for each of 64 pages
//
// Made with the first typed block. From then on every page that the heap has handed out is covered,
// so that giving a block back needs no memory. Pages of the map itself have no bits.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <pagetrap/store/pointers.hpp>

#include "store/heap/page_runs.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

inline constexpr std::size_t kWordsOfPage = kPageBytes / 8;
inline constexpr std::size_t kMappedPages = kPageBytes * 8 / kWordsOfPage;    // by a map page
inline constexpr std::size_t kLeafEntries = kPageBytes / sizeof(PageNumber);  // map pages
inline constexpr std::size_t kDirectorySpan = kMappedPages * kLeafEntries;    // pages of a leaf
using PageBits = std::array<std::uint64_t, kWordsOfPage / 64>;

[[nodiscard]] constexpr std::size_t directory_entries(std::size_t reserve_pages) noexcept {
  return (reserve_pages + kDirectorySpan - 1) / kDirectorySpan;
}
[[nodiscard]] constexpr std::size_t directory_pages(std::size_t reserve_pages) noexcept {
  return (directory_entries(reserve_pages) * sizeof(PageNumber) + kPageBytes - 1) / kPageBytes;
}

/// What a transaction has declared to be, or not to be, a pointer: a word that has another form in
/// the file must be logged then, changed or not. Kept only while somebody needs it.
struct Retyped {
  struct Words {
    std::uint64_t place = 0;  // in the data
    std::uint64_t bytes = 0;
  };
  std::vector<Words> words;
  std::vector<PageNumber> tables;  // new pages of the map
  bool lost = false;  // there was no memory for it: the transaction cannot be committed
  void note_words(std::uint64_t place, std::uint64_t bytes) noexcept;
  void note_table(PageNumber page) noexcept;
  void clear() noexcept;
};

class PointerMap {
 public:
  PointerMap(PageRuns& runs, std::size_t reserve_pages) noexcept
      : runs_(runs), reserve_pages_(reserve_pages) {}
  void set_retyped(Retyped* retyped) noexcept { retyped_ = retyped; }

  [[nodiscard]] bool exists() const noexcept { return header().map_directory != 0; }
  /// An empty map of no pages. False: there is no room.
  [[nodiscard]] bool create() noexcept;
  /// Takes back create() and all that covers: what it was needed for has failed.
  void forget() noexcept;
  /// All pages in use are covered, now. False: there is no room. Nothing to do without a map.
  [[nodiscard]] bool cover() noexcept;

  /// The block's words: `elements` times `type`, from its begin, and no other. They are covered.
  void set(void* block, std::size_t block_bytes, std::size_t elements,
           const TypeMap& type) noexcept;
  /// One word that is a pointer.
  void mark(void* word) noexcept;
  [[nodiscard]] bool is_marked(std::uint64_t place) const noexcept;

 private:
  [[nodiscard]] HeapHeader& header() const noexcept { return runs_.header(); }
  [[nodiscard]] PageNumber* numbers(PageNumber page) const noexcept {
    return reinterpret_cast<PageNumber*>(runs_.address(page));
  }
  /// The 64 bits that have those of the word `index` of the store.
  [[nodiscard]] std::uint64_t& bits_of(std::uint64_t index) const noexcept;
  [[nodiscard]] PageNumber new_table(std::size_t pages) noexcept;
  [[nodiscard]] bool cover_chunk(std::uint64_t chunk) noexcept;
  void write(std::uint64_t index, std::uint64_t mask, std::uint64_t value) noexcept;

  PageRuns& runs_;
  std::size_t reserve_pages_;
  Retyped* retyped_ = nullptr;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
