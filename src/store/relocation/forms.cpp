#include "store/relocation/forms.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "store/pages/diff.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

using HeaderBits = std::array<PageBits, kHotPages>;

constexpr HeaderBits header_bits() noexcept {
  HeaderBits bits{};
  const auto add = [&](std::size_t offset) {
    const std::size_t word = offset / 8;
    bits[word / kWordsOfPage][word % kWordsOfPage / 64] |= std::uint64_t{1} << (word % 64);
  };
  for (std::size_t i = 0; i < kClasses; ++i)
    for (std::size_t j = 0; j < sizeof(HeapHeader::Class); j += 8)
      add(offsetof(HeapHeader, classes) + i * sizeof(HeapHeader::Class) + j);
  for (std::size_t i = 0; i < kRootBuckets; ++i) add(offsetof(HeapHeader, roots) + i * 8);
  return bits;
}
constexpr HeaderBits kHeaderBits = header_bits();
static_assert(sizeof(HeapHeader::Class) == 3 * sizeof(void*));

constexpr PageBits kAllBits = [] {
  PageBits bits{};
  bits.fill(~std::uint64_t{0});
  return bits;
}();

}  // namespace

bool is_pointer_of_header(std::size_t offset) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t word = offset / 8;
  return (kHeaderBits[word / kWordsOfPage][word % kWordsOfPage / 64] >> (word % 64) & 1) != 0;
}

void Forms::exchange_words(std::byte* contents, const PageBits& bits) const noexcept
    PAGETRAP_SIGNAL_SAFE {
  for (std::size_t i = 0; i < bits.size(); ++i) {
    for (std::uint64_t rest = bits[i]; rest != 0; rest &= rest - 1) {
      const auto at = (i * 64 + static_cast<std::size_t>(std::countr_zero(rest))) * 8;
      std::uint64_t word = 0;
      std::memcpy(&word, contents + at, sizeof word);
      word = relocation_.exchange(word);
      std::memcpy(contents + at, &word, sizeof word);
    }
  }
}

Outcome Forms::exchange(PageNumber page, std::byte* contents) noexcept PAGETRAP_SIGNAL_SAFE {
  if (page < kHotPages) {
    exchange_words(contents, kHeaderBits[page]);
  } else if (tables_.has(page)) {
    return kDone;
  } else if (by_value_) {
    exchange_words(contents, kAllBits);
  } else {
    PageBits bits{};
    if (const Outcome outcome = read_map(page, bits); failed(outcome)) return outcome;
    exchange_words(contents, bits);
  }
  return kDone;
}

// A table's pages need no map themselves: whoever loads a page waits for them at most, and never
// the other way round.
Outcome Forms::read_number(PageNumber table, std::size_t index, PageNumber& number) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (const Outcome outcome = committed_.materialise(table); failed(outcome)) return outcome;
  std::memcpy(&number, committed_.image(table) + index * sizeof number, sizeof number);
  if (number >= kHotPages && number < pages_ && tables_.has(number)) return kDone;
  return {"pointer map of a store",
          EBADMSG,
          {},
          "its tables make no sense: pagetrap store check",
          static_cast<std::int64_t>(offset_of_page(committed_.data_offset(), table))};
}

Outcome Forms::read_map(PageNumber page, PageBits& bits) noexcept PAGETRAP_SIGNAL_SAFE {
  const auto& header = *reinterpret_cast<const HeapHeader*>(committed_.image(0));
  const std::size_t chunk = page / kMappedPages;
  bits = {};
  if (header.map_directory == 0 || chunk >= header.map_covered) return kDone;
  const std::size_t leaf_index = chunk / kLeafEntries;
  const auto directory = static_cast<PageNumber>(header.map_directory + leaf_index / kLeafEntries);
  PageNumber leaf = 0;
  Outcome outcome = read_number(directory, leaf_index % kLeafEntries, leaf);
  if (failed(outcome)) return outcome;
  PageNumber table = 0;
  outcome = read_number(leaf, chunk % kLeafEntries, table);
  if (!failed(outcome)) outcome = committed_.materialise(table);
  if (failed(outcome)) return outcome;
  std::memcpy(bits.data(), committed_.image(table) + page % kMappedPages * sizeof bits,
              sizeof bits);
  return kDone;
}

bool Forms::is_pointer(std::uint64_t place, const PointerMap& now,
                       const Retyped& retyped) const noexcept {
  const auto page = static_cast<PageNumber>(place / kPageBytes);
  if (page < kHotPages) return is_pointer_of_header(place);
  if (tables_.has(page) ||
      std::find(retyped.tables.begin(), retyped.tables.end(), page) != retyped.tables.end())
    return false;
  return by_value_ || now.is_marked(place);
}

void Forms::to_file(std::vector<std::byte>& payload, const PointerMap& now,
                    const Retyped& retyped) const noexcept {
  for_each_run(payload, [&](const Run& run, const std::byte* bytes) {
    std::byte* const to = payload.data() + (bytes - payload.data());
    for (std::size_t at = 0; at < run.length; at += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, to + at, sizeof word);
      // Few words look like addresses: the map is asked about those only.
      const std::uint64_t other = relocation_.exchange(word);
      if (other != word && is_pointer(run.place + at, now, retyped))
        std::memcpy(to + at, &other, sizeof other);
    }
  });
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
