#include <algorithm>
#include <cerrno>
#include <list>
#include <new>
#include <vector>

#include <pagetrap/checkpoint/image.hpp>

#include "checkpoint/image/chain.hpp"
#include "checkpoint/image/layout.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

namespace {

// Pages side by side often lie in different blocks, since what was written first was saved first.
// Arbitrary: 32 MiB of pages of 4 KiB.
constexpr std::size_t kBlocksKept = 16;

/// Zeroes are written in such steps, so that progress is told and may stop us.
constexpr std::uint64_t kZeroStep = std::uint64_t{1} << 30;

/// Expanded blocks, those used last.
class BlockCache {
 public:
  explicit BlockCache(const Chain& chain) : chain_(chain) {}

  Result<std::span<const std::byte>> pages(const ChainBlock& block) {
    auto found = std::find_if(entries_.begin(), entries_.end(),
                              [&block](const Entry& entry) { return entry.block == &block; });
    if (found != entries_.end()) {
      entries_.splice(entries_.begin(), entries_, found);
      return std::span<const std::byte>(entries_.front().pages);
    }
    if (entries_.size() < kBlocksKept) {
      entries_.emplace_front();
    } else {
      entries_.splice(entries_.begin(), entries_, std::prev(entries_.end()));
    }
    Entry& entry = entries_.front();
    entry.block = nullptr;
    entry.pages.resize(std::size_t{block.pages} * chain_.info().page_size);
    if (auto done = chain_.load(block, entry.pages, scratch_); !done) return done.error();
    entry.block = &block;
    return std::span<const std::byte>(entry.pages);
  }

 private:
  struct Entry {
    const ChainBlock* block = nullptr;
    std::vector<std::byte> pages;
  };
  const Chain& chain_;
  std::list<Entry> entries_;
  std::vector<std::byte> scratch_;
};

struct Part {
  const ChainBlock* block = nullptr;
  ChainPiece piece;
};

/// The region's pieces by page.
std::vector<Part> parts_of(const Chain& chain, std::uint32_t region) {
  std::vector<Part> parts;
  for (const ChainBlock& block : chain.blocks()) {
    for (const ChainPiece& piece : chain.pieces(block)) {
      if (piece.region == region) parts.push_back({&block, piece});
    }
  }
  std::sort(parts.begin(), parts.end(),
            [](const Part& a, const Part& b) { return a.piece.first_page < b.piece.first_page; });
  return parts;
}

class Extraction {
 public:
  Extraction(const Chain& chain, Sink& sink, const Progress& progress, std::uint64_t size)
      : page_size_(chain.info().page_size),
        cache_(chain),
        sink_(sink),
        progress_(progress),
        size_(size) {}

  Result<Done> copy(const Part& part) {
    if (auto done = zeroes_up_to(part.piece.first_page * page_size_); !done) return done;
    const auto pages = cache_.pages(*part.block);
    if (!pages) return pages.error();
    const std::size_t length = part.piece.pages * page_size_;
    if (auto done = sink_.write((*pages).subspan(part.piece.page_in_block * page_size_, length));
        !done) {
      return done;
    }
    return moved(length);
  }

  Result<Done> zeroes_up_to(std::uint64_t end) {
    while (done_ < end) {
      const std::uint64_t step = std::min(end - done_, kZeroStep);
      if (auto done = sink_.write_zeroes(step); !done) return done;
      if (auto done = moved(step); !done) return done;
    }
    return Done{};
  }

 private:
  Result<Done> moved(std::uint64_t bytes) {
    done_ += bytes;
    if (progress_ && !progress_(done_, size_)) return Error{"extract", ECANCELED};
    return Done{};
  }

  std::size_t page_size_;
  BlockCache cache_;
  Sink& sink_;
  const Progress& progress_;
  std::uint64_t size_;
  std::uint64_t done_ = 0;
};

Result<Done> extract_to(const std::string& path, const std::string& region, Sink& sink,
                        const Progress& progress) {
  const auto opened = Chain::open(path);
  if (!opened) return opened.error();
  const Chain& chain = **opened;
  const auto& regions = chain.info().regions;
  const auto found = std::find_if(regions.begin(), regions.end(),
                                  [&region](const auto& each) { return each.name == region; });
  if (found == regions.end()) {
    return Error{"extract", EINVAL, {}, "the image has no region of that name; inspect lists them"};
  }
  Extraction extraction(chain, sink, progress, found->size_bytes);
  for (const Part& part : parts_of(chain, static_cast<std::uint32_t>(found - regions.begin()))) {
    if (auto done = extraction.copy(part); !done) return done;
  }
  if (auto done = extraction.zeroes_up_to(found->size_bytes); !done) return done;
  return sink.commit();
}

}  // namespace

Result<Done> extract(const std::string& path, const std::string& region, Sink& sink,
                     const Progress& progress) {
  try {
    auto extracted = extract_to(path, region, sink, progress);
    if (!extracted) sink.abandon();
    return extracted;
  } catch (const std::bad_alloc&) {
    sink.abandon();
    return Error{"extract", ENOMEM};
  } catch (...) {
    sink.abandon();
    throw;
  }
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
