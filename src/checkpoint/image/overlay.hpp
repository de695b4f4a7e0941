// Overlay: which image of a chain has the newest contents of each page, in the order of pages.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <queue>
#include <span>
#include <utility>
#include <vector>

#include "checkpoint/image/chain.hpp"
#include "checkpoint/image/stored_image.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

struct OverlayImage {
  const StoredImage* image = nullptr;
  std::vector<std::uint32_t> regions;  // for each of its regions the number in the newest image
};

/// Sweeps over all pages once. At each page at most one run of each image lies; those that do wait
/// in a heap with the newest image on top. A run enters and leaves once, so that n runs of k images
/// cost n log k, however they overlap, and nothing is kept but k entries.
///
/// Memory  the images' runs must stay until the sweep is over; what next() returns is a copy.
class Overlay {
 public:
  struct Top {
    std::uint32_t image = 0;
    std::uint32_t block = 0;
    ChainPiece piece;
  };

  explicit Overlay(std::span<const OverlayImage> images);
  /// The next piece; nothing when there are no more. Zero pages are in none.
  std::optional<Top> next();

 private:
  /// A page of the newest image.
  struct Place {
    std::uint32_t region = 0;
    std::uint64_t page = 0;
    auto operator<=>(const Place&) const = default;
  };
  /// The runs of one region.
  struct Stretch {
    std::uint32_t region = 0;  // in the newest image
    std::size_t next = 0;
    std::size_t end = 0;
  };
  struct Layer {
    std::vector<Stretch> stretches;  // by the newest image's regions
    std::size_t stretch = 0;
    layout::Run run{};  // the one in a heap, with its region's number in the newest image
  };
  [[nodiscard]] std::vector<Stretch> stretches_of(const OverlayImage& image) const;
  /// Puts the image's next run that ends after at_ into upcoming_, if there is one.
  void advance(std::uint32_t image);
  [[nodiscard]] Place begin_of(std::uint32_t image) const {
    return {layers_[image].run.region, layers_[image].run.first_page};
  }
  [[nodiscard]] Place end_of(std::uint32_t image) const {
    return {layers_[image].run.region, layers_[image].run.first_page + layers_[image].run.pages};
  }
  [[nodiscard]] Place clip(std::uint32_t top, Place end);

  using Upcoming = std::pair<Place, std::uint32_t>;
  std::span<const OverlayImage> images_;
  std::vector<Layer> layers_;
  std::priority_queue<Upcoming, std::vector<Upcoming>, std::greater<>> upcoming_;
  /// Images whose run has begun. Those below the top may have ended long ago, which is found out
  /// when they come up.
  std::priority_queue<std::uint32_t, std::vector<std::uint32_t>, std::greater<>> active_;
  Place at_;
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
