// Twin: the collector's side of barriers in instructions (docs/design/gc.md, "The twins").
#pragma once

#include <atomic>
#include <cstdint>

#include <pagetrap/gc/barriers.hpp>
#include <pagetrap/gc/options.hpp>

#include "gc/cards.hpp"
#include "gc/outcome.hpp"
#include "gc/page.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

struct HeapState;

struct Twin {
  Barriers barriers = Barriers::pages;
  Cards cards;                          // where stores mark them
  std::atomic<std::uint32_t> loads{0};  // threads in load_slowly()
  detail::BarrierState state;  // of every attached thread. GUARDED_BY(HeapState::threads_lock)

  /// Which supply the barriers need where the program has not said.
  static Result<PageSupply> supply_for(Barriers barriers, PageSupply wanted);
  /// Once the heap's spaces are there.
  Outcome create(HeapState& heap);

  /// In a flip: what from-space is now, and another card table. The epoch has begun.
  void begin_cycle(HeapState& heap, bool full) noexcept;
  /// The last scan is over. Has threads_lock.
  void end_cycle(HeapState& heap) noexcept;

  /// A word of a stack points into a page of an old object. Whether the page must be scanned: the
  /// thread may be between its store there and its mark.
  bool note_pointed(HeapState& heap, PageIndex page, std::uintptr_t offset) noexcept;
  /// A new large object, which a stack points to, is old from now on: it may be under construction,
  /// and constructors mark nothing.
  void note_new_large(HeapState& heap, PageIndex first) noexcept;
  /// The cards of an old page that are to be scanned.
  [[nodiscard]] std::uint64_t marks(const HeapState& heap, PageIndex first,
                                    PageIndex page) const noexcept PAGETRAP_SIGNAL_SAFE;
  /// Marks of the cycle that ends.
  void forget_marks(HeapState& heap) noexcept;
};

/// For a thread that may not be attached, and runs destructors: their stores mark cards that nobody
/// looks at. Critical.
class DestructorCards {
 public:
  explicit DestructorCards(const Twin& twin) noexcept : before_(detail::barriers.cards) {
    detail::barriers.cards = twin.cards.exist() ? twin.cards.biased(0) : nullptr;
  }
  ~DestructorCards() { detail::barriers.cards = before_; }
  DestructorCards(const DestructorCards&) = delete;
  DestructorCards& operator=(const DestructorCards&) = delete;

 private:
  std::uint8_t* before_;
};

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
