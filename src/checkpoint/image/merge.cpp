#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <new>
#include <queue>
#include <utility>
#include <vector>

#include <pagetrap/checkpoint/image.hpp>

#include "checkpoint/image/chain.hpp"
#include "checkpoint/image/crew.hpp"
#include "checkpoint/image/pool.hpp"
#include "checkpoint/image/writer.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

namespace {

struct Workplace {
  std::vector<std::byte> pages;    // of a block, expanded
  std::vector<std::byte> scratch;  // Chain::load's
  std::vector<std::byte> gathered;
  std::vector<BlockRun> runs;
};

/// Pieces of one block without a page in common, by page_in_block.
using Layer = std::vector<ChainPiece>;

/// Where blocks were equal, several pieces need the same pages of a block. As few layers as can be:
/// each, as a rule, is the whole block again, and so equal to what was written for the first.
std::vector<Layer> layers_of(std::span<const ChainPiece> pieces) {
  std::vector<ChainPiece> sorted(pieces.begin(), pieces.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const ChainPiece& a, const ChainPiece& b) {
    return a.page_in_block < b.page_in_block;
  });
  std::vector<Layer> layers;
  using End = std::pair<std::uint32_t, std::size_t>;  // page_in_block, layer
  std::priority_queue<End, std::vector<End>, std::greater<>> ends;
  for (const ChainPiece& piece : sorted) {
    std::size_t layer = layers.size();
    if (!ends.empty() && ends.top().first <= piece.page_in_block) {
      layer = ends.top().second;
      ends.pop();
    } else {
      layers.emplace_back();
    }
    layers[layer].push_back(piece);
    ends.emplace(piece.page_in_block + piece.pages, layer);
  }
  return layers;
}

Result<Done> add_layer(ImageWriter& writer, const Layer& layer, std::size_t page_size,
                       Workplace& place) {
  place.runs.clear();
  bool gapless = true;
  std::uint32_t end = layer.front().page_in_block;
  for (const ChainPiece& piece : layer) {
    place.runs.push_back({piece.region, piece.pages, piece.first_page});
    gapless = gapless && piece.page_in_block == end;
    end = piece.page_in_block + piece.pages;
  }
  const std::span<const std::byte> pages(place.pages);
  const std::size_t begin = layer.front().page_in_block;
  if (gapless) {
    return writer.add(place.runs, pages.subspan(begin * page_size, (end - begin) * page_size));
  }
  place.gathered.clear();
  for (const ChainPiece& piece : layer) {
    const auto part = pages.subspan(piece.page_in_block * page_size, piece.pages * page_size);
    place.gathered.insert(place.gathered.end(), part.begin(), part.end());
  }
  return writer.add(place.runs, place.gathered);
}

Result<ImageInfo> merge_to(const std::string& path, Sink& sink, Compression compression,
                           const Progress& progress, unsigned threads) {
  const auto opened = Chain::open(path);
  if (!opened) return opened.error();
  const Chain& chain = **opened;
  ImageInfo info = chain.info();
  info.parent = ImageId{};
  info.compression = compression;
  if (::getrandom(info.id.data(), info.id.size(), 0) != static_cast<ssize_t>(info.id.size())) {
    return Error{"getrandom", errno};
  }
  auto begun = ImageWriter::begin(sink, info);
  if (!begun) return begun.error();
  ImageWriter& writer = **begun;

  std::uint64_t total_bytes = 0;
  for (const ChainBlock& block : chain.blocks()) {
    total_bytes += std::uint64_t{block.pages} * info.page_size;
  }
  Pool<Workplace> pool;
  const auto copy = [&](std::uint64_t number) -> Result<std::uint64_t> {
    const ChainBlock& block = chain.blocks()[number];
    const auto place = pool.take();
    place->pages.resize(std::size_t{block.pages} * info.page_size);
    if (auto done = chain.load(block, place->pages, place->scratch); !done) return done.error();
    for (const Layer& layer : layers_of(chain.pieces(block))) {
      if (auto done = add_layer(writer, layer, info.page_size, *place); !done) return done.error();
    }
    return place->pages.size();
  };
  if (auto done = for_each_task(chain.blocks().size(), copy, progress, total_bytes, threads);
      !done) {
    return done.error();
  }
  auto finished = writer.finish();
  if (!finished) return finished.error();
  if (auto done = sink.commit(); !done) return done.error();
  return finished;
}

}  // namespace

Result<ImageInfo> merge(const std::string& path, Sink& sink, Compression compression,
                        const Progress& progress, unsigned threads) {
  try {
    auto merged = merge_to(path, sink, compression, progress, threads);
    if (!merged) sink.abandon();
    return merged;
  } catch (const std::bad_alloc&) {
    sink.abandon();
    return Error{"merge", ENOMEM};
  } catch (...) {
    sink.abandon();
    throw;
  }
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
