// CompressedSource: a paged region whose absent pages are compressed memory.
//
//   auto source = compress::CompressedSource::create(1_GiB).value();
//   auto pager = pager::Pager::create({.budget_bytes = 256_MiB}).value();
//   auto heap = pager::Region::create(*pager, 1_GiB, *source).value();
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <pagetrap/compress/page_store.hpp>
#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/pager/source.hpp>

namespace pagetrap {
inline namespace v0 {
namespace compress {

struct CompressedSourceState;  // src/compress/compressed_source.hpp

struct CompressedSourceOptions {
  /// Its budget is what compressed pages may take. 0, as here: the region's size and a twentieth,
  /// so that the pager's budget alone decides.
  PageStoreOptions store{.budget_bytes = 0};
  /// A dictionary is learnt from so many pages, in a thread of its own, once they have been seen by
  /// the pager's helper thread. 0: never.
  std::size_t learn_from_pages = 1024;
  /// The copy of a page that comes into memory is retained while less than so many sixteenths of
  /// all copies are retained ones: at the beginning, and the limits within which that adapts to how
  /// many pages come back unchanged.
  unsigned retain_least = 0;
  unsigned retain_first = 2;
  unsigned retain_most = 8;
  /// Pages grow older with each time that as many pages have left memory as the region has. Those
  /// of this age, 1 to 14, are compressed again by the cold codec, and go to the store's file if it
  /// has one: by the pager's helper thread, a page for each that leaves. 0: never.
  unsigned chill_after = 3;
  unsigned spill_after = 6;
};

struct CompressedSourceStatistics {
  PageStoreStatistics store;
  std::size_t retained_pages = 0;  // in memory, and compressed as well
  unsigned retain_sixteenths = 0;  // see CompressedSourceOptions
  std::uint64_t filled = 0;
  std::uint64_t written = 0;    // pages that came back
  std::uint64_t unchanged = 0;  // of these
  std::uint64_t prepared = 0;   // compressed by the helper thread, before they came back
  std::uint64_t let_go = 0;     // copies of pages in memory, given up
  std::uint64_t chilled = 0;    // for their age, to the cold codec
  std::uint64_t aged_out = 0;   // for their age, to the file
  bool learnt = false;          // a dictionary
  bool lessons_over = false;    // learnt, or it is not worth it
};

/// Pages are in one of three classes: in memory only; in memory with a retained copy; compressed
/// only. A page that comes back with the contents of its copy is dropped without compressing it:
/// told by a hash of 64 bits, see PageStore. Pages that nobody has written are zeroes.
///
/// Threads, signals, fork: as pager::Source. With a file to spill to, faults are served by handler
/// threads, and a fork()ed child has no such region.
class PAGETRAP_API CompressedSource final : public pager::Source {
 public:
  /// For a region of `size_bytes`.
  static Result<std::unique_ptr<CompressedSource>> create(std::size_t size_bytes,
                                                          CompressedSourceOptions options = {});
  ~CompressedSource() override;

  [[nodiscard]] pager::SourceTraits traits() const noexcept override;
  pager::Transfer fill(std::span<const pager::PageRef> pages) noexcept
      PAGETRAP_SIGNAL_SAFE override;
  pager::Transfer write_back(std::span<const pager::PageRef> pages) noexcept
      PAGETRAP_SIGNAL_SAFE override;
  void arrived(std::uint64_t first, std::size_t count, std::size_t soon) noexcept
      PAGETRAP_SIGNAL_SAFE override;
  void forget(std::uint64_t first, std::size_t count) noexcept PAGETRAP_SIGNAL_SAFE override;
  void prepare(std::span<const pager::PageRef> snapshots) noexcept override;
  [[nodiscard]] std::size_t memory_bytes() const noexcept PAGETRAP_SIGNAL_SAFE override;
  void in_child() noexcept override;

  /// Pages [first, first + count) that are compressed only: smaller, by the cold codec. For a
  /// service that is parked. Errors  the first of PageStore's; the others are tried all the same.
  Result<Done> chill(std::uint64_t first, std::size_t count);
  /// The same to the file.
  Result<Done> spill(std::uint64_t first, std::size_t count);

  [[nodiscard]] PageStore& store() noexcept;
  [[nodiscard]] CompressedSourceStatistics statistics() const;

  /// In pages of their own: faults touch it, and malloc's memory may itself be paged.
  static void* operator new(std::size_t size);
  static void operator delete(void* source, std::size_t size) noexcept;

 private:
  CompressedSource() = default;
  std::unique_ptr<CompressedSourceState> state_;
};

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
