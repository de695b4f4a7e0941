#include "checkpoint/image/overlay.hpp"

#include <algorithm>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

Overlay::Overlay(std::span<const OverlayImage> images) : images_(images), layers_(images.size()) {
  for (std::uint32_t i = 0; i < images.size(); ++i) {
    layers_[i].stretches = stretches_of(images[i]);
    advance(i);
  }
}

// The image's runs are in the order of its own regions, which need not be the newest image's.
std::vector<Overlay::Stretch> Overlay::stretches_of(const OverlayImage& image) const {
  std::vector<Stretch> stretches;
  const StoredImage& stored = *image.image;
  for (std::size_t begin = 0; begin < stored.run_count();) {
    const std::uint32_t region = stored.run(begin).region;
    std::size_t end = begin + 1;  // at most this far is known to be of the region
    std::size_t beyond = stored.run_count();
    while (end < beyond) {
      const std::size_t middle = end + (beyond - end) / 2;
      if (stored.run(middle).region == region) {
        end = middle + 1;
      } else {
        beyond = middle;
      }
    }
    stretches.push_back({image.regions[region], begin, end});
    begin = end;
  }
  std::sort(stretches.begin(), stretches.end(),
            [](const Stretch& a, const Stretch& b) { return a.region < b.region; });
  return stretches;
}

void Overlay::advance(std::uint32_t image) {
  Layer& layer = layers_[image];
  for (; layer.stretch < layer.stretches.size(); ++layer.stretch) {
    Stretch& stretch = layer.stretches[layer.stretch];
    while (stretch.next < stretch.end) {
      layer.run = images_[image].image->run(stretch.next++);
      layer.run.region = stretch.region;
      if (end_of(image) > at_) {
        upcoming_.emplace(begin_of(image), image);
        return;
      }
    }
  }
}

/// Where the piece of `top` that begins at at_ and might go on to `end` really ends: where a newer
/// image begins. Older ones that begin before are put below it.
Overlay::Place Overlay::clip(std::uint32_t top, Place end) {
  while (!upcoming_.empty() && upcoming_.top().first < end) {
    const auto [begin, image] = upcoming_.top();
    if (image < top) return begin;
    active_.push(image);
    upcoming_.pop();
  }
  return end;
}

std::optional<Overlay::Top> Overlay::next() {
  for (;;) {
    while (!upcoming_.empty() && upcoming_.top().first <= at_) {
      active_.push(upcoming_.top().second);
      upcoming_.pop();
    }
    if (active_.empty()) {
      if (upcoming_.empty()) return std::nullopt;
      at_ = upcoming_.top().first;
      continue;
    }
    const std::uint32_t image = active_.top();
    const Place whole_end = end_of(image);
    if (whole_end <= at_) {
      active_.pop();
      advance(image);
      continue;
    }
    const layout::Run& run = layers_[image].run;
    const Place begin = at_;
    at_ = clip(image, whole_end);
    if (run.block == layout::kZeroBlock) continue;
    const auto skipped = static_cast<std::uint32_t>(begin.page - run.first_page);
    return Top{image, run.block,
               ChainPiece{begin.region, static_cast<std::uint32_t>(at_.page - begin.page),
                          begin.page, run.page_in_block + skipped}};
  }
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
