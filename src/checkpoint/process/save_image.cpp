#include "checkpoint/process/save_image.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include <pagetrap/core/units.hpp>

#include "checkpoint/image/crew.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

// Regions, by number.
constexpr std::uint32_t kMemory = 0;
constexpr std::uint32_t kRecord = 1;
constexpr std::uint32_t kObjects = 2;

constexpr std::size_t kCompressedBlockPages = 64;  // a page that is wanted brings so many along

/// Pages that become a block.
struct Piece {
  std::vector<Run> runs;
  std::size_t pages = 0;
};

// Blocks begin where addresses are multiples of their size, so that one that changes little is like
// the one before, and long runs can be mapped with huge pages.
std::vector<Piece> pieces_of(const Runs& runs, std::size_t most) {
  const std::uint64_t span = most << page_shift();
  std::vector<Piece> pieces;
  for (const Run& run : runs) {
    for (std::uint64_t at = run.start; at < run.end;) {
      const std::uint64_t end = std::min(run.end, (at / span + 1) * span);
      const std::size_t pages = (end - at) >> page_shift();
      if (pieces.empty() || pieces.back().pages + pages > most || pages == most)
        pieces.emplace_back();
      pieces.back().runs.push_back({at, end});
      pieces.back().pages += pages;
      at = end;
    }
  }
  return pieces;
}

class ImageOfProcess {
 public:
  ImageOfProcess(ImageWriter& writer, std::size_t most) : writer_(writer), most_(most) {}

  Result<std::uint64_t> add(const Piece& piece, const MemoryCut* memory) {
    std::vector<std::byte> bytes(piece.pages << page_shift());
    std::vector<BlockRun> runs;
    std::size_t at = 0;
    for (const Run& run : piece.runs) {
      const std::size_t length = run.end - run.start;
      if (memory != nullptr) {
        auto read = memory->read(run.start, std::span(bytes).subspan(at, length));
        if (!read) return read.error();
      }
      runs.push_back(
          {kMemory, static_cast<std::uint32_t>(length >> page_shift()), run.start >> page_shift()});
      at += length;
    }
    if (auto added = writer_.add(runs, bytes); !added) return added.error();
    return bytes.size();
  }

  Result<Done> add_bytes(std::uint32_t region, std::uint64_t offset,
                         std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const std::size_t length = std::min(bytes.size(), most_ << page_shift());
      std::vector<std::byte> pages(pagetrap::bytes(pages_for(length)));
      std::memcpy(pages.data(), bytes.data(), length);
      const BlockRun run{region, static_cast<std::uint32_t>(pages.size() >> page_shift()),
                         offset >> page_shift()};
      if (auto added = writer_.add(std::span(&run, 1), pages); !added) return added;
      bytes = bytes.subspan(length);
      offset += pages.size();
    }
    return Done{};
  }

 private:
  ImageWriter& writer_;
  std::size_t most_;
};

// Where the contents of objects go: one after the other, in the order of offsets, without gaps but
// those inside an object.
Result<Done> add_objects(ImageOfProcess& image, Record& record, const ObjectContents& contents) {
  std::uint64_t next = 0;
  for (std::size_t i = 0; i < record.objects.size(); ++i) {
    Object& object = record.objects[i];
    object.contents_at = next;
    std::uint64_t end = 0;
    // Several mappings may show the same pages.
    std::map<std::uint64_t, const std::vector<std::byte>*> by_offset;
    for (const Contents& piece : contents[i]) {
      const auto [known, fresh] = by_offset.emplace(piece.offset, &piece.bytes);
      if (!fresh && known->second->size() < piece.bytes.size()) known->second = &piece.bytes;
    }
    for (const auto& [offset, bytes] : by_offset) {
      const std::uint64_t begin = std::max(offset, end);
      const std::uint64_t finish = offset + bytes->size();
      if (finish <= begin) continue;
      auto added =
          image.add_bytes(kObjects, next + begin, std::span(*bytes).subspan(begin - offset));
      if (!added) return added;
      end = pagetrap::bytes(pages_for(finish));
      object.contents_bytes = finish;
    }
    next += end;
  }
  return Done{};
}

}  // namespace

Result<ImageWriter::Counts> save_image(const std::string& path, ImageInfo info, Record& record,
                                       const ObjectContents& contents, const MemoryCut& memory,
                                       unsigned threads, const Progress& progress) {
  auto sink = file_sink(path);
  if (!sink) return sink.error();
  info.page_size = static_cast<std::uint32_t>(page_size());
  info.regions = {{kMemoryRegion, 0, kMemoryBytes, 0},
                  {kRecordRegion, 0, kRecordBytes, 0},
                  {kObjectsRegion, 0, kObjectsBytes, 0}};
  auto writer = ImageWriter::begin(**sink, info);
  if (!writer) return writer.error();
  const std::size_t most =
      info.compression == Compression::none ? kMaxBlockPages : kCompressedBlockPages;
  ImageOfProcess image(**writer, most);
  const auto work = [&]() -> Result<Done> {
    const std::vector<Piece> pieces = pieces_of(memory.wanted, most);
    auto done = for_each_task(
        pieces.size(), [&](std::uint64_t i) { return image.add(pieces[i], &memory); }, progress,
        size_bytes(memory.wanted), threads);
    if (!done) return done;
    for (const Piece& zeroes : pieces_of(memory.zero, most))
      if (auto added = image.add(zeroes, nullptr); !added) return added.error();
    if (auto added = add_objects(image, record, contents); !added) return added;
    std::vector<std::byte> bytes(sizeof(std::uint64_t));
    const std::vector<std::byte> encoded = encode(record);
    const std::uint64_t length = encoded.size();
    std::memcpy(bytes.data(), &length, sizeof length);
    bytes.insert(bytes.end(), encoded.begin(), encoded.end());
    if (auto added = image.add_bytes(kRecord, 0, bytes); !added) return added;
    if (auto finished = (*writer)->finish(); !finished) return finished.error();
    return (*sink)->commit();
  };
  if (auto done = work(); !done) {
    (*sink)->abandon();
    return done.error();
  }
  return (*writer)->counts();
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
