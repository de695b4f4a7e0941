#include "checkpoint/image/writer.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "checkpoint/image/checksum.hpp"
#include "checkpoint/image/codec.hpp"
#include "checkpoint/image/layout.hpp"
#include "checkpoint/image/pool.hpp"
#include "checkpoint/image/zero.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

namespace {

static_assert(kMaxBlockPages == layout::kMaxBlockPages);

Error refused(const char* why) { return Error{"ImageWriter", EINVAL, {}, why}; }

Error no_memory() {
  return Error{"ImageWriter", ENOMEM, {}, "there is no memory for buffers or the index"};
}

/// The empty Error (number 0): an image can have this header.
Error check_header(const ImageInfo& info) {
  if (!layout::page_size_is_possible(info.page_size)) {
    return refused("the page size must be a power of two from 4096 to 65536");
  }
  if (info.id == ImageId{}) return refused("the image needs an id");
  if (info.id == info.parent) return refused("no image is its own parent");
  if (info.compression > Compression::zstd) return refused("there is no such compression");
  if (info.regions.size() > layout::kMaxRegions) return refused("there are too many regions");
  std::unordered_set<std::string> names;
  for (const ImageRegion& region : info.regions) {
    if (region.name.size() > layout::kMaxNameBytes) {
      return refused("a region's name may have 255 bytes");
    }
    if (region.base % info.page_size != 0 || region.size_bytes % info.page_size != 0) {
      return refused("regions must be whole pages");
    }
    if (region.base > layout::kMaxAddress ||
        region.size_bytes > layout::kMaxAddress - region.base) {
      return refused("a region is beyond the end of the address space");
    }
    if (!names.insert(region.name).second) return refused("two regions have the same name");
  }
  return Error{};
}

std::vector<std::byte> header_bytes(const ImageInfo& info) {
  std::uint64_t length = sizeof(layout::Header);
  for (const ImageRegion& region : info.regions) {
    length += sizeof(layout::Region) + layout::round_up(region.name.size(), 8);
  }
  const std::uint64_t rounded =
      layout::round_up(length, std::max(layout::kGranule, info.page_size));

  std::vector<std::byte> bytes(rounded);
  layout::Header header{};
  header.magic = layout::kHeaderMagic;
  header.version = layout::kVersion;
  header.page_size = info.page_size;
  header.header_bytes = static_cast<std::uint32_t>(rounded);
  header.compression = static_cast<std::uint32_t>(info.compression);
  header.id = info.id;
  header.parent_id = info.parent;
  header.created_ns = info.created_ns;
  header.generation = info.generation;
  header.region_count = static_cast<std::uint32_t>(info.regions.size());
  layout::put_record(bytes, 0, header);
  std::size_t at = sizeof header;
  for (const ImageRegion& region : info.regions) {
    const auto length_of_name = static_cast<std::uint32_t>(region.name.size());
    layout::put_record(
        bytes, at, layout::Region{region.base, region.size_bytes, region.root, length_of_name, 0});
    at += sizeof(layout::Region);
    if (length_of_name != 0) std::memcpy(bytes.data() + at, region.name.data(), length_of_name);
    at += layout::round_up(length_of_name, 8);
  }
  header.checksum = checksum(bytes);
  layout::put_record(bytes, 0, header);
  return bytes;
}

/// What a thread needs to encode a block.
struct Workplace {
  Codec codec;
  std::vector<std::byte> gathered;  // the pages that are not zero
  std::vector<layout::Run> runs;    // page_in_block counts from the pages that are not zero
};

/// A block that was written.
struct Known {
  std::uint32_t number = 0;
  std::uint32_t size_bytes = 0;  // of its pages
};

struct HashOfHash {
  std::size_t operator()(const ContentHash& hash) const noexcept { return hash.high; }
};

/// A block before it has a number.
struct Encoded {
  std::span<const std::byte> contents;  // the pages
  std::span<const std::byte> stored;
  layout::Encoding encoding = layout::Encoding::raw;
  ContentHash hash;
  std::uint64_t stored_checksum = 0;
};

class Writer final : public ImageWriter {
 public:
  Writer(Sink& sink, const ImageInfo& info) : sink_(sink), info_(info) {
    info_.version = layout::kVersion;
    info_.pages = info_.zero_pages = info_.blocks = info_.stored_bytes = info_.file_bytes = 0;
  }

  Result<Done> write_header() {
    const std::vector<std::byte> bytes = header_bytes(info_);
    const std::lock_guard lock(mutex_);
    return write(bytes);
  }

  Result<Done> add(std::span<const BlockRun> runs, std::span<const std::byte> bytes) override try {
    if (const Error error = check_runs(runs, bytes.size()); error.number != 0) return error;
    const auto place = pool_.take();
    find_zero_pages(runs, bytes, *place);
    const std::size_t kept = gather(bytes, *place);
    Encoded block;
    std::optional<std::uint32_t> number;
    if (kept != 0) {
      block.contents = kept == bytes.size() ? bytes : std::span(place->gathered).first(kept);
      block.hash = content_hash(block.contents, layout::seed(info_.id));
      number = find_equal(block);
      if (!number) encode(block, place->codec);
    }
    const std::lock_guard lock(mutex_);
    if (finished_) return refused("the image is finished already");
    if (stuck_) return *stuck_;
    return append(block, number, place->runs);
  } catch (const std::bad_alloc&) {
    // Some pages are not in the image now, which must not be finished as if they were.
    const std::lock_guard lock(mutex_);
    if (!stuck_) stuck_ = no_memory();
    return no_memory();
  }

  Result<ImageInfo> finish() override try {
    const std::lock_guard lock(mutex_);
    if (finished_) return refused("the image is finished already");
    if (stuck_) return *stuck_;
    finished_ = true;
    if (!sort_and_join_runs()) return refused("a page was added twice");
    const std::uint64_t index_offset = bytes_;
    // Not as one piece: the index of a large image is itself large.
    const layout::IndexHead head{layout::kIndexMagic, blocks_.size(), runs_.size()};
    RunningChecksum index_checksum;
    for (const auto part : {layout::bytes_of(head), std::as_bytes(std::span(blocks_)),
                            std::as_bytes(std::span(runs_))}) {
      if (part.empty()) continue;
      index_checksum.add(part);
      if (auto written = write(part); !written) return written.error();
    }

    layout::Footer footer{};
    footer.magic = layout::kFooterMagic;
    footer.index_offset = index_offset;
    footer.index_bytes = bytes_ - index_offset;
    footer.index_checksum = index_checksum.value();
    footer.file_bytes = bytes_ + sizeof footer;
    footer.id = info_.id;
    footer.checksum = checksum(layout::bytes_of(footer).first(offsetof(layout::Footer, checksum)));
    if (auto written = write(layout::bytes_of(footer)); !written) return written.error();

    info_.pages = written_ + duplicate_;
    info_.zero_pages = zero_pages();
    info_.blocks = blocks_.size();
    info_.file_bytes = footer.file_bytes;
    return info_;
  } catch (const std::bad_alloc&) {
    return no_memory();
  }

  [[nodiscard]] Counts counts() const override {
    return {written_.load(std::memory_order_relaxed), zero_.load(std::memory_order_relaxed),
            duplicate_.load(std::memory_order_relaxed), bytes_.load(std::memory_order_relaxed)};
  }

 private:
  /// The empty Error (number 0): the runs are of this image, and `size_bytes` long together.
  [[nodiscard]] Error check_runs(std::span<const BlockRun> runs, std::size_t size_bytes) const {
    std::uint64_t pages = 0;
    for (const BlockRun& run : runs) {
      if (run.region >= info_.regions.size()) return refused("a run is of no region of the image");
      const std::uint64_t region_pages = info_.regions[run.region].size_bytes / info_.page_size;
      if (run.pages == 0 || run.first_page > region_pages ||
          run.pages > region_pages - run.first_page) {
        return refused("a run is empty, or not inside its region");
      }
      pages += run.pages;
      if (pages > kMaxBlockPages) return refused("a block may have 512 pages");
    }
    if (pages * info_.page_size != size_bytes) return refused("the runs do not cover the bytes");
    return Error{};
  }

  /// Splits `runs` where pages turn to zero and back.
  void find_zero_pages(std::span<const BlockRun> runs, std::span<const std::byte> bytes,
                       Workplace& place) const {
    place.runs.clear();
    std::uint32_t stored = 0;
    std::size_t at = 0;
    for (const BlockRun& run : runs) {
      bool first = true;
      for (std::uint32_t i = 0; i < run.pages; ++i, at += info_.page_size) {
        const bool zero = is_zero(bytes.subspan(at, info_.page_size));
        if (!first && (place.runs.back().block == layout::kZeroBlock) == zero) {
          ++place.runs.back().pages;
        } else {
          place.runs.push_back({run.region, 1, run.first_page + i, zero ? layout::kZeroBlock : 0,
                                zero ? 0 : stored});
        }
        first = false;
        if (!zero) ++stored;
      }
    }
  }

  /// Puts the pages that are not zero side by side, if they are not yet. How many bytes they have.
  [[nodiscard]] std::size_t gather(std::span<const std::byte> bytes, Workplace& place) const {
    std::size_t kept = 0;
    for (const layout::Run& run : place.runs) {
      if (run.block != layout::kZeroBlock) kept += std::size_t{run.pages} * info_.page_size;
    }
    if (kept == 0 || kept == bytes.size()) return kept;
    if (place.gathered.size() < kept) place.gathered.resize(kept);
    std::size_t from = 0;
    std::size_t to = 0;
    for (const layout::Run& run : place.runs) {
      const std::size_t length = std::size_t{run.pages} * info_.page_size;
      if (run.block != layout::kZeroBlock) {
        std::memcpy(place.gathered.data() + to, bytes.data() + from, length);
        to += length;
      }
      from += length;
    }
    return kept;
  }

  void encode(Encoded& block, Codec& codec) const {
    const auto wanted = static_cast<layout::Encoding>(info_.compression);
    const auto compressed = codec.compress(wanted, block.contents);
    if (compressed.empty()) {
      block.stored = block.contents;
      block.stored_checksum = block.hash.low;
    } else {
      block.stored = compressed;
      block.encoding = wanted;
      block.stored_checksum = checksum(compressed, layout::seed(info_.id));
    }
  }

  /// The number of a block that was written with the same contents.
  std::optional<std::uint32_t> find_equal(const Encoded& block) const {
    const std::lock_guard lock(numbers_mutex_);
    const auto found = numbers_.find(block.hash);
    if (found == numbers_.end() || found->second.size_bytes != block.contents.size()) {
      return std::nullopt;
    }
    return found->second.number;
  }

  void remember(const Encoded& block, std::uint32_t number) noexcept try {
    const std::lock_guard lock(numbers_mutex_);
    numbers_.try_emplace(block.hash,
                         Known{number, static_cast<std::uint32_t>(block.contents.size())});
  } catch (const std::bad_alloc&) {
    // Then an equal block is stored again.
  }

  // The rest needs mutex_.

  Result<Done> append(const Encoded& block, std::optional<std::uint32_t> number,
                      std::span<const layout::Run> runs) {
    // Before anything is written: what follows must not fail half-way.
    reserve_one_more(runs.size());
    const auto pages = static_cast<std::uint32_t>(block.contents.size() / info_.page_size);
    if (pages != 0) {
      // Another thread may have written the same meanwhile.
      if (!number) number = find_equal(block);
      if (number) {
        duplicate_ += pages;
      } else {
        if (blocks_.size() >= layout::kZeroBlock) return refused("there are too many blocks");
        number = static_cast<std::uint32_t>(blocks_.size());
        const std::uint64_t offset = bytes_;
        if (auto written = write(block.stored); !written) return written;
        blocks_.push_back({offset, static_cast<std::uint32_t>(block.stored.size()), pages,
                           static_cast<std::uint32_t>(block.encoding), 0, block.stored_checksum});
        info_.stored_bytes += block.stored.size();
        written_ += pages;
        remember(block, *number);
      }
    }
    for (layout::Run run : runs) {
      if (run.block == layout::kZeroBlock) {
        zero_ += run.pages;
        if (!info_.incremental()) continue;  // without a parent that needs no mention
      } else {
        run.block = *number;
      }
      runs_.push_back(run);
    }
    return Done{};
  }

  void reserve_one_more(std::size_t runs) {
    if (blocks_.size() == blocks_.capacity()) blocks_.reserve(2 * blocks_.size() + 64);
    if (runs_.capacity() - runs_.size() < runs) runs_.reserve(2 * runs_.size() + runs + 64);
  }

  Result<Done> write(std::span<const std::byte> bytes) {
    // Until it has succeeded: a sink of the program's may also throw.
    stuck_ = Error{"ImageWriter", EIO, {}, "an earlier write to the sink failed"};
    if (auto written = sink_.write(bytes); !written) {
      stuck_ = written.error();
      return written;
    }
    stuck_.reset();
    bytes_ += bytes.size();
    return Done{};
  }

  /// False if two of them have a page in common.
  bool sort_and_join_runs() {
    std::sort(runs_.begin(), runs_.end(), [](const layout::Run& a, const layout::Run& b) {
      return a.region != b.region ? a.region < b.region : a.first_page < b.first_page;
    });
    std::size_t kept = 0;
    for (const layout::Run& run : runs_) {
      if (kept != 0) {
        layout::Run& last = runs_[kept - 1];
        const std::uint64_t last_end = last.first_page + last.pages;
        if (last.region == run.region && run.first_page < last_end) return false;
        const bool zero = run.block == layout::kZeroBlock;
        const bool goes_on = last.region == run.region && run.first_page == last_end &&
                             last.block == run.block &&
                             (zero || last.page_in_block + last.pages == run.page_in_block);
        if (goes_on && last.pages <= kMostPagesOfRun - run.pages) {
          last.pages += run.pages;
          continue;
        }
      }
      runs_[kept++] = run;
    }
    runs_.resize(kept);
    return true;
  }

  /// All that a reader of this one image knows to be zero.
  [[nodiscard]] std::uint64_t zero_pages() const {
    if (info_.incremental()) return zero_;
    std::uint64_t all = 0;
    for (const ImageRegion& region : info_.regions) all += region.size_bytes / info_.page_size;
    return all - info_.pages;
  }

  static constexpr std::uint32_t kMostPagesOfRun = 1u << 31;

  Sink& sink_;
  ImageInfo info_;
  Pool<Workplace> pool_;

  // Apart from mutex_, which is held while the sink writes.
  mutable std::mutex numbers_mutex_;
  std::unordered_map<ContentHash, Known, HashOfHash> numbers_;

  // Counts. Changed under mutex_, and read without: a sink may keep that for as long as it likes.
  std::atomic<std::uint64_t> written_{0};
  std::atomic<std::uint64_t> zero_{0};
  std::atomic<std::uint64_t> duplicate_{0};
  std::atomic<std::uint64_t> bytes_{0};

  std::mutex mutex_;  // for all below, the sink, and info_.stored_bytes; taken first
  std::vector<layout::Block> blocks_;
  std::vector<layout::Run> runs_;
  std::optional<Error> stuck_;
  bool finished_ = false;
};

}  // namespace

Result<std::unique_ptr<ImageWriter>> ImageWriter::begin(Sink& sink, const ImageInfo& info) try {
  if (const Error error = check_header(info); error.number != 0) return error;
  auto writer = std::make_unique<Writer>(sink, info);
  if (auto written = writer->write_header(); !written) return written.error();
  return std::unique_ptr<ImageWriter>(std::move(writer));
} catch (const std::bad_alloc&) {
  return no_memory();
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
