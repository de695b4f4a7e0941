#include "checkpoint/process/stored_process.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

constexpr std::uint64_t kMostRecord = std::uint64_t{256} << 20;

Error no_process() {
  return Error{"restart", EBADMSG, {}, "it is no image of a process: `pagetrap image inspect`"};
}

}  // namespace

Result<Done> StoredProcess::index() {
  const auto region_named = [&](const char* name) {
    const auto& regions = chain_->info().regions;
    const auto found = std::find_if(regions.begin(), regions.end(),
                                    [&](const ImageRegion& each) { return each.name == name; });
    return found == regions.end() ? regions.size()
                                  : static_cast<std::size_t>(found - regions.begin());
  };
  const std::size_t memory = region_named(kMemoryRegion);
  const std::size_t record = region_named(kRecordRegion);
  const std::size_t objects = region_named(kObjectsRegion);
  const std::size_t count = chain_->info().regions.size();
  if (memory == count || record == count || objects == count) return no_process();
  if (chain_->info().page_size != page_size())
    return Error{"restart", ENOTSUP, {}, "the image is from a machine with other pages"};
  for (std::uint32_t block = 0; block < chain_->blocks().size(); ++block) {
    for (const ChainPiece& piece : chain_->pieces(chain_->blocks()[block])) {
      const StoredPages pages{piece.first_page << page_shift(),
                              (piece.first_page + piece.pages) << page_shift(), block,
                              piece.page_in_block};
      if (piece.region == memory) memory_.push_back(pages);
      if (piece.region == record) record_pages_.push_back(pages);
      if (piece.region == objects) objects_.push_back(pages);
    }
  }
  for (auto* const each : {&memory_, &record_pages_, &objects_})
    std::sort(each->begin(), each->end(),
              [](const StoredPages& a, const StoredPages& b) { return a.start < b.start; });
  return Done{};
}

Result<std::vector<std::byte>> StoredProcess::read(const std::vector<StoredPages>& where,
                                                   std::uint64_t offset,
                                                   std::uint64_t length) const {
  std::vector<std::byte> bytes(length);
  std::vector<std::byte> block;
  std::vector<std::byte> scratch;
  for (const StoredPages& pages : where) {
    const std::uint64_t start = std::max(pages.start, offset);
    const std::uint64_t end = std::min(pages.end, offset + length);
    if (start >= end) continue;
    const ChainBlock& stored = chain_->blocks()[pages.block];
    block.resize(std::size_t{stored.pages} << page_shift());
    if (auto loaded = chain_->load(stored, block, scratch); !loaded) return loaded.error();
    std::memcpy(
        bytes.data() + (start - offset),
        block.data() + (std::size_t{pages.page_in_block} << page_shift()) + (start - pages.start),
        end - start);
  }
  return bytes;
}

Result<std::unique_ptr<StoredProcess>> StoredProcess::open(const std::string& path) {
  auto made = std::make_unique<StoredProcess>();
  auto chain = Chain::open(path);
  if (!chain) return chain.error();
  made->chain_ = std::move(*chain);
  if (auto indexed = made->index(); !indexed) return indexed.error();
  const auto head = made->read(made->record_pages_, 0, sizeof(std::uint64_t));
  if (!head) return head.error();
  std::uint64_t length = 0;
  std::memcpy(&length, head->data(), sizeof length);
  if (length == 0 || length > kMostRecord) return no_process();
  const auto bytes = made->read(made->record_pages_, sizeof length, length);
  if (!bytes) return bytes.error();
  auto record = decode(*bytes);
  if (!record) return record.error();
  made->record_ = std::move(*record);
  return made;
}

Result<std::vector<std::byte>> StoredProcess::contents(const Object& object) const {
  return read(objects_, object.contents_at, object.contents_bytes);
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
