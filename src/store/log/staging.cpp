// The staging area: where a checkpoint's pages are, whole, before they go to their places.
#include <cerrno>
#include <cstring>
#include <vector>

#include "store/format/checksum.hpp"
#include "store/format/superblock.hpp"
#include "store/log/recovery.hpp"
#include "store/log/staging.hpp"
#include "store/snapshot/history.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

// Nothing unless all of it is there: then no page went to its place either.
Result<Staged> read_staging(Disk& disk, const Superblock& block) {
  Staged staged;
  std::vector<Page> head_pages(kStagingHeadBytes / kPageBytes);
  const std::span<std::byte> head_bytes(head_pages[0].bytes.data(), kStagingHeadBytes);
  if (const Outcome outcome = disk.read(head_bytes, block.staging_offset); failed(outcome))
    return outcome;
  StagingHead head;
  std::memcpy(&head, head_bytes.data(), sizeof head);
  if (head.magic != kStagingMagic || head.count > staged_pages(block.staging_bytes)) return staged;
  std::memset(head_bytes.data() + offsetof(StagingHead, sum), 0, sizeof head.sum);
  if (checksum(head_bytes, block.seed) != head.sum) return staged;
  staged.entries.resize(head.count);
  std::memcpy(staged.entries.data(), head_bytes.data() + sizeof head,
              head.count * sizeof(StagedPage));
  staged.pages.resize(head.count);
  for (std::size_t i = 0; i < head.count; ++i) {
    const StagedPage& entry = staged.entries[i];
    const std::uint64_t from = block.staging_offset + kStagingHeadBytes + i * kPageBytes;
    if (const Outcome outcome = disk.read(staged.pages[i].bytes, from); failed(outcome))
      return outcome;
    if (checksum(staged.pages[i].bytes, block.seed + entry.offset) != entry.sum) return Staged{};
    if (entry.offset < block.data_offset || entry.offset % kPageBytes != 0 ||
        entry.offset + kPageBytes > disk.size())
      return Error{"staging area of a store",
                   EBADMSG,
                   {},
                   "a page has an impossible place",
                   static_cast<std::int64_t>(block.staging_offset)};
  }
  return staged;
}

namespace {

Outcome keep_for_snapshots(Disk& disk, Superblock& block, const Staged& staged) {
  auto history = History::create(disk, block);
  if (!history) return history.error();
  if (*history == nullptr) return kDone;
  std::vector<BeforeImage> images;
  for (std::size_t i = 0; i < staged.entries.size(); ++i) {
    const std::uint64_t offset = staged.entries[i].offset;
    if (is_offset_of_sums(block.data_offset, offset)) continue;
    const PageNumber page = page_at(block.data_offset, offset);
    const std::uint64_t place = offset_of_sums(block.data_offset, page / kGroupPages) +
                                page % kGroupPages * sizeof(std::uint64_t);
    std::uint64_t sum = 0;
    if (const Outcome outcome =
            disk.read(std::as_writable_bytes(std::span(&sum, std::size_t{1})), place);
        failed(outcome))
      return outcome;
    images.push_back({page, sum, staged.pages[i].bytes.data()});
  }
  if (!failed((*history)->keep(images))) return kDone;
  block.snapshots_lost = block.generation;
  block.generation += 1;
  return write_superblock(disk, block);
}

}  // namespace

Result<std::uint64_t> replay_staging(Disk& disk, Superblock& block) {
  const auto staged = read_staging(disk, block);
  if (!staged) return staged.error();
  if (!staged->entries.empty())
    if (const Outcome outcome = keep_for_snapshots(disk, block, *staged); failed(outcome))
      return outcome;
  std::uint64_t written = 0;
  for (std::size_t i = 0; i < staged->entries.size(); ++i) {
    Page there;
    const std::uint64_t offset = staged->entries[i].offset;
    if (const Outcome outcome = disk.read(there.bytes, offset); failed(outcome)) return outcome;
    if (there.bytes == staged->pages[i].bytes) continue;
    if (const Outcome outcome = disk.write(staged->pages[i].bytes, offset); failed(outcome))
      return outcome;
    written += 1;
  }
  if (written != 0)
    if (const Outcome outcome = disk.sync(); failed(outcome)) return outcome;
  return written;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
