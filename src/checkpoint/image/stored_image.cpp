#include "checkpoint/image/stored_image.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <unordered_set>

#include "checkpoint/image/checksum.hpp"
#include "sys/injection.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

namespace {

constexpr const char* kCutShort =
    "the file is cut short, was added to, or is not written to the end; use another checkpoint";
constexpr const char* kBadIndex = "the index contradicts itself; use another checkpoint";
constexpr const char* kBadBlock = "the block's checksum is wrong; use another checkpoint";

/// Opened without waiting for the other end of a FIFO, and without becoming its terminal.
sys::Descriptor open_file(int at, const char* path) noexcept {
  return sys::Descriptor(::openat(at, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
}

/// 0, or errno; ENODATA: the file ends first.
int read_all(int descriptor, std::span<std::byte> bytes, std::uint64_t position) noexcept {
  if (const int error = sys::injected(sys::Call::pread)) return error;
  while (!bytes.empty()) {
    const ssize_t length =
        ::pread(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(position));
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return errno;
    if (length == 0) return ENODATA;
    bytes = bytes.subspan(static_cast<std::size_t>(length));
    position += static_cast<std::uint64_t>(length);
  }
  return 0;
}

}  // namespace

Error damaged(std::uint64_t position, const char* what) noexcept {
  return Error{"reading an image", EBADMSG, {}, what, static_cast<std::int64_t>(position)};
}

Result<Done> StoredImage::read(std::span<std::byte> bytes, std::uint64_t position) const {
  const int error = read_all(file_.get(), bytes, position);
  if (error == ENODATA) return damaged(position, kCutShort);
  if (error != 0) {
    return Error{"pread of an image", error, {}, "", static_cast<std::int64_t>(position)};
  }
  return Done{};
}

Result<std::unique_ptr<StoredImage>> StoredImage::open(int at, const char* path) {
  std::unique_ptr<StoredImage> image(new StoredImage);
  image->file_ = open_file(at, path);
  if (!image->file_.valid()) return Error{"open of an image", errno};
  struct stat status {};
  if (::fstat(image->descriptor(), &status) != 0) return Error{"fstat of an image", errno};
  if (S_ISDIR(status.st_mode)) return Error{"open of an image", EISDIR};
  if (!S_ISREG(status.st_mode)) {
    return Error{"open of an image", EINVAL, {}, "images are read from files; make one of it"};
  }
  image->info_.file_bytes = static_cast<std::uint64_t>(status.st_size);
  if (auto read = image->read_header(); !read) return read.error();
  if (auto read = image->read_index(); !read) return read.error();
  return image;
}

Result<Done> StoredImage::read_header() {
  layout::Header header{};
  if (info_.file_bytes < sizeof header + sizeof(layout::Footer)) {
    return damaged(info_.file_bytes, "too short to be an image");
  }
  if (auto done = read(std::as_writable_bytes(std::span(&header, 1)), 0); !done) return done;
  if (header.magic != layout::kHeaderMagic) return damaged(0, "this is not a pagetrap image");
  if (header.version != layout::kVersion) {
    return Error{"reading an image",
                 ENOTSUP,
                 {},
                 "its format has another version; use the pagetrap that wrote it",
                 offsetof(layout::Header, version)};
  }
  constexpr auto kLengthAt = offsetof(layout::Header, header_bytes);
  if (header.header_bytes < layout::kGranule || header.header_bytes % layout::kGranule != 0 ||
      header.header_bytes > layout::kMaxHeaderBytes) {
    return damaged(kLengthAt, "the header has an impossible length");
  }
  if (header.header_bytes > info_.file_bytes) return damaged(info_.file_bytes, kCutShort);

  std::vector<std::byte> bytes(header.header_bytes);
  if (auto done = read(bytes, 0); !done) return done;
  header = layout::record_at<layout::Header>(bytes, 0);  // nobody changed it between the two
  const std::uint64_t expected = std::exchange(header.checksum, 0);
  layout::put_record(bytes, 0, header);
  if (checksum(bytes) != expected || header.header_bytes != bytes.size() ||
      header.magic != layout::kHeaderMagic || header.version != layout::kVersion) {
    return damaged(0, "the header's checksum is wrong; use another checkpoint");
  }

  if (!layout::page_size_is_possible(header.page_size)) {
    return Error{"reading an image",
                 ENOTSUP,
                 {},
                 "no machine that we know has such pages",
                 offsetof(layout::Header, page_size)};
  }
  if (header.header_bytes % header.page_size != 0) {
    return damaged(kLengthAt, "the header has an impossible length");
  }
  if (header.compression > static_cast<std::uint32_t>(Compression::zstd) || header.flags != 0) {
    return Error{"reading an image",
                 ENOTSUP,
                 {},
                 "it uses what this pagetrap does not know; use the one that wrote it",
                 offsetof(layout::Header, compression)};
  }
  if (header.id == ImageId{} || header.id == header.parent_id) {
    return damaged(offsetof(layout::Header, id), "no image has such an id");
  }
  header_bytes_ = header.header_bytes;
  info_.version = header.version;
  info_.page_size = header.page_size;
  info_.id = header.id;
  info_.parent = header.parent_id;
  info_.generation = header.generation;
  info_.created_ns = header.created_ns;
  info_.compression = static_cast<Compression>(header.compression);
  return read_regions(bytes, header.region_count);
}

Result<Done> StoredImage::read_regions(std::span<const std::byte> bytes, std::uint32_t count) {
  constexpr const char* kWrong = "the table of regions contradicts itself";
  std::size_t at = sizeof(layout::Header);
  if (count > layout::kMaxRegions || count > (bytes.size() - at) / sizeof(layout::Region)) {
    return damaged(offsetof(layout::Header, region_count), kWrong);
  }
  std::unordered_set<std::string_view> names;  // in `bytes`
  info_.regions.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    if (bytes.size() - at < sizeof(layout::Region)) return damaged(at, kWrong);
    const auto region = layout::record_at<layout::Region>(bytes, at);
    const std::size_t name_at = at + sizeof region;
    const std::uint64_t padded = layout::round_up(region.name_length, 8);
    if (region.name_length > layout::kMaxNameBytes || padded > bytes.size() - name_at ||
        region.reserved != 0 || region.base % info_.page_size != 0 ||
        region.size_bytes % info_.page_size != 0 || region.base > layout::kMaxAddress ||
        region.size_bytes > layout::kMaxAddress - region.base) {
      return damaged(at, kWrong);
    }
    const std::string_view name(reinterpret_cast<const char*>(bytes.data()) + name_at,
                                region.name_length);
    if (!names.insert(name).second) return damaged(name_at, "two regions have the same name");
    info_.regions.push_back({std::string(name), region.base, region.size_bytes, region.root});
    at = name_at + padded;
  }
  if (std::any_of(bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.end(),
                  [](std::byte byte) { return byte != std::byte{0}; })) {
    return damaged(at, "something follows the table of regions");
  }
  return Done{};
}

Result<Done> StoredImage::read_footer(layout::Footer& footer) const {
  if (info_.file_bytes - header_bytes_ < sizeof(layout::IndexHead) + sizeof footer) {
    return damaged(info_.file_bytes, kCutShort);
  }
  const std::uint64_t at = info_.file_bytes - sizeof footer;
  if (auto done = read(std::as_writable_bytes(std::span(&footer, 1)), at); !done) return done;
  const auto covered = layout::bytes_of(footer).first(offsetof(layout::Footer, checksum));
  if (footer.magic != layout::kFooterMagic || footer.checksum != checksum(covered)) {
    return damaged(at, kCutShort);
  }
  // Each subtraction is safe by the comparison before it.
  if (footer.file_bytes != info_.file_bytes || footer.id != info_.id ||
      footer.index_offset < header_bytes_ || footer.index_offset > at ||
      footer.index_bytes != at - footer.index_offset ||
      footer.index_bytes < sizeof(layout::IndexHead)) {
    return damaged(at, "the footer does not belong to this file");
  }
  return Done{};
}

Result<Done> StoredImage::read_index() {
  layout::Footer footer{};
  if (auto done = read_footer(footer); !done) return done;
  layout::IndexHead head{};
  const auto head_bytes = std::as_writable_bytes(std::span(&head, 1));
  if (auto done = read(head_bytes, footer.index_offset); !done) return done;
  const std::uint64_t records = footer.index_bytes - sizeof head;
  const auto counts_agree = [&] {
    return head.magic == layout::kIndexMagic && head.block_count < layout::kZeroBlock &&
           head.block_count <= records / sizeof(layout::Block) &&
           (records - head.block_count * sizeof(layout::Block)) % sizeof(layout::Run) == 0 &&
           head.run_count ==
               (records - head.block_count * sizeof(layout::Block)) / sizeof(layout::Run);
  };
  if (!counts_agree()) return damaged(footer.index_offset, kBadIndex);

  index_.resize(footer.index_bytes);
  if (auto done = read(index_, footer.index_offset); !done) return done;
  head = layout::record_at<layout::IndexHead>(index_, 0);  // what the checksum is of
  if (checksum(index_) != footer.index_checksum || !counts_agree()) {
    return damaged(footer.index_offset, "the index's checksum is wrong; use another checkpoint");
  }
  block_count_ = static_cast<std::uint32_t>(head.block_count);
  run_count_ = head.run_count;
  runs_at_ = sizeof head + block_count_ * sizeof(layout::Block);
  info_.blocks = block_count_;
  info_.stored_bytes = footer.index_offset - header_bytes_;
  if (auto done = check_blocks(footer.index_offset); !done) return done;
  return check_runs(footer.index_offset + runs_at_);
}

// Blocks follow each other without a gap from the header to the index, so that there is no byte
// that no checksum is of.
Result<Done> StoredImage::check_blocks(std::uint64_t index_offset) {
  std::uint64_t end = header_bytes_;
  const auto compression = static_cast<std::uint32_t>(info_.compression);
  for (std::uint32_t i = 0; i < block_count_; ++i) {
    const layout::Block record = block(i);
    const std::uint64_t expanded = std::uint64_t{record.pages} * info_.page_size;
    const bool raw = record.encoding == static_cast<std::uint32_t>(layout::Encoding::raw);
    if (record.offset != end || record.stored_bytes > index_offset - end ||
        record.stored_bytes == 0 || record.pages == 0 || record.pages > layout::kMaxBlockPages ||
        record.reserved != 0 || (!raw && record.encoding != compression) ||
        (raw ? record.stored_bytes != expanded : record.stored_bytes >= expanded)) {
      return damaged(index_offset + sizeof(layout::IndexHead) + i * sizeof record, kBadIndex);
    }
    end += record.stored_bytes;
  }
  if (end != index_offset) return damaged(end, kBadIndex);
  return Done{};
}

Result<Done> StoredImage::check_runs(std::uint64_t position) {
  std::uint64_t explicit_zeroes = 0;
  std::uint32_t region = 0;
  std::uint64_t end = 0;  // of the run before, in `region`
  for (std::size_t i = 0; i < run_count_; ++i) {
    const layout::Run record = run(i);
    const auto wrong = [&] { return damaged(position + i * sizeof record, kBadIndex); };
    if (record.region < region || record.region >= info_.regions.size()) return wrong();
    if (record.region != region) end = 0;
    const std::uint64_t region_pages = info_.regions[record.region].size_bytes / info_.page_size;
    if (record.pages == 0 || record.first_page < end || record.first_page > region_pages ||
        record.pages > region_pages - record.first_page) {
      return wrong();
    }
    if (record.block == layout::kZeroBlock) {
      if (record.page_in_block != 0) return wrong();
      explicit_zeroes += record.pages;
    } else {
      if (record.block >= block_count_) return wrong();
      const std::uint32_t block_pages = block(record.block).pages;
      if (record.page_in_block > block_pages || record.pages > block_pages - record.page_in_block) {
        return wrong();
      }
      info_.pages += record.pages;
    }
    region = record.region;
    end = record.first_page + record.pages;
  }
  info_.zero_pages = explicit_zeroes;
  if (!info_.incremental()) {
    // Whatever a full image does not mention is zero.
    info_.zero_pages = 0;
    for (const ImageRegion& each : info_.regions) {
      info_.zero_pages += each.size_bytes / info_.page_size;
    }
    info_.zero_pages -= info_.pages;
  }
  return Done{};
}

void StoredImage::drop_runs() {
  index_.resize(runs_at_);
  index_.shrink_to_fit();
  run_count_ = 0;
}

Result<Done> StoredImage::load(std::uint32_t number, std::span<std::byte> out,
                               std::vector<std::byte>& scratch) const {
  const layout::Block record = block(number);
  const bool raw = record.encoding == static_cast<std::uint32_t>(layout::Encoding::raw);
  if (out.size() != std::size_t{record.pages} * info_.page_size) {
    return Error{"Chain::load", EINVAL, {}, "the buffer must have the size of the block"};
  }
  if (!raw && scratch.size() < record.stored_bytes) scratch.resize(record.stored_bytes);
  const std::span<std::byte> stored = raw ? out : std::span(scratch).first(record.stored_bytes);
  if (auto done = read(stored, record.offset); !done) return done;
  if (checksum(stored, layout::seed(info_.id)) != record.checksum) {
    return damaged(record.offset, kBadBlock);
  }
  if (!raw &&
      !codecs_.take()->expand(static_cast<layout::Encoding>(record.encoding), stored, out)) {
    return damaged(record.offset, "the block cannot be expanded; use another checkpoint");
  }
  return Done{};
}

std::optional<ImageId> peek_id(int at, const char* path) noexcept {
  struct stat status {};
  // Looked at first: to open a device can have effects.
  if (::fstatat(at, path, &status, 0) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  const sys::Descriptor file = open_file(at, path);
  layout::Header header{};
  if (!file.valid() ||
      read_all(file.get(), std::as_writable_bytes(std::span(&header, 1)), 0) != 0 ||
      header.magic != layout::kHeaderMagic) {
    return std::nullopt;
  }
  return header.id;
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
