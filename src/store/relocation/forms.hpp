// Forms: a page in the file has addresses of the place that the file records, in memory those of
// the place where the store is. Converted are what comes from the file, what a commit logs and what
// a checkpoint writes; images, comparisons and undo records have the form of memory.
#pragma once

#include <span>
#include <vector>

#include "store/heap/heap.hpp"
#include "store/pages/committed_pages.hpp"
#include "store/relocation/relocation.hpp"
#include "store/relocation/tables.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

/// Whether the header's word at `offset` of the data is a pointer.
[[nodiscard]] bool is_pointer_of_header(std::size_t offset) noexcept PAGETRAP_SIGNAL_SAFE;

class Forms final : public PageForms {
 public:
  /// `by_value`: every word that looks like an address is one; else those that the map has.
  Forms(const Relocation& relocation, bool by_value, CommittedPages& committed,
        const Tables& tables, std::size_t pages) noexcept
      : relocation_(relocation),
        by_value_(by_value),
        committed_(committed),
        tables_(tables),
        pages_(pages) {}

  /// All of a page, from either form to the other, as the committed map has it. Needs the header in
  /// the image, unless `page` is it.
  Outcome exchange(PageNumber page, std::byte* contents) noexcept PAGETRAP_SIGNAL_SAFE override;

  /// A record's payload as the file is to have it, after what the running transaction has made of
  /// the map.
  void to_file(std::vector<std::byte>& payload, const PointerMap& now,
               const Retyped& retyped) const noexcept;
  [[nodiscard]] bool changes(std::uint64_t word) const noexcept {
    return relocation_.exchange(word) != word;
  }

 private:
  void exchange_words(std::byte* contents, const PageBits& bits) const noexcept
      PAGETRAP_SIGNAL_SAFE;
  Outcome read_map(PageNumber page, PageBits& bits) noexcept PAGETRAP_SIGNAL_SAFE;
  Outcome read_number(PageNumber table, std::size_t index, PageNumber& number) noexcept
      PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] bool is_pointer(std::uint64_t place, const PointerMap& now,
                                const Retyped& retyped) const noexcept;

  const Relocation relocation_;
  const bool by_value_;
  CommittedPages& committed_;
  const Tables& tables_;
  const std::size_t pages_;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
