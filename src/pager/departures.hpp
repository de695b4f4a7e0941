// Departures: what an eviction needs while its pages are on their way out. Eight may be under way
// at once; one more waits.
#pragma once

#include <array>

#include <pagetrap/vm/region.hpp>

#include "pager/page_word.hpp"
#include "pager/scratch.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {

class PagedRegion;
struct Pool;

/// One page on its way out.
struct Victim {
  FrameId frame = kNoFrame;
  PagedRegion* region = nullptr;
  Pool* pool = nullptr;  // the region's: outlives it
  std::uint64_t index = 0;
  PageWord word;               // what it was when it was taken
  std::byte* bytes = nullptr;  // where its contents are; null: they need not be stored
  bool moved = false;          // the region has it no more; else unmapped at the end
  bool stays = false;          // taken back, refused, or postponed
  bool is_next = false;        // postponed: soon a victim again
};

class Staging;

struct Batch {
  std::array<FrameId, kMostAtOnce> frames;
  std::array<Victim, kMostAtOnce> victims;
  std::array<PageRef, kMostAtOnce> pages;
  std::array<PageRange, kMostAtOnce> ranges;
  std::array<std::size_t, kMostAtOnce> which;
  // Pages that were moved out stay where they were staged until there is no room for the next ones:
  // dropping them interrupts the other CPUs.
  std::size_t staged = 0;
  std::array<Staging*, 3> stagings{};  // that have some of them
};

/// Where pages are moved out to: missing pages in a region of the same userfaultfd as the one they
/// come from.
class Staging {
 public:
  /// `like`: how the regions are made that it serves.
  Result<Done> create(const pagetrap::RegionOptions& like);
  [[nodiscard]] pagetrap::Region& region() noexcept PAGETRAP_SIGNAL_SAFE { return region_; }
  [[nodiscard]] PageRange pages(unsigned batch, std::size_t first, std::size_t count) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return {region_.data() + ((batch * kMostAtOnce + first) << page_shift()), Pages{count}};
  }

 private:
  pagetrap::Region region_;
};

class Departures {
 public:
  static constexpr unsigned kBatches = 8;
  Result<Done> reserve();

  class Taken {
   public:
    explicit Taken(Departures& departures) noexcept PAGETRAP_SIGNAL_SAFE
        : departures_(departures),
          number_(departures.claims_.take(kBatches)) {}
    ~Taken() PAGETRAP_SIGNAL_SAFE { departures_.claims_.give_back(number_); }
    Taken(const Taken&) = delete;
    Taken& operator=(const Taken&) = delete;
    [[nodiscard]] unsigned number() const noexcept PAGETRAP_SIGNAL_SAFE { return number_; }
    [[nodiscard]] Batch& batch() const noexcept PAGETRAP_SIGNAL_SAFE {
      return departures_.batches_[number_];
    }
    /// A page of plain memory for a copy.
    [[nodiscard]] std::byte* copy(std::size_t index) const noexcept PAGETRAP_SIGNAL_SAFE {
      return departures_.copies_.data() + ((number_ * kMostAtOnce + index) << page_shift());
    }

   private:
    Departures& departures_;
    unsigned number_;
  };

 private:
  sys::Mapping copies_;
  Claims claims_;
  std::array<Batch, kBatches> batches_{};
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
