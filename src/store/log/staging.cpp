// The staging area: where a checkpoint's pages are, whole, before they go to their places.
#include <cerrno>
#include <cstring>
#include <vector>

#include "store/format/checksum.hpp"
#include "store/log/recovery.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

struct alignas(kPageBytes) Page {
  std::array<std::byte, kPageBytes> bytes;
};

struct Staged {
  std::vector<StagedPage> entries;
  std::vector<Page> pages;
};

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

}  // namespace

Result<std::uint64_t> replay_staging(Disk& disk, const Superblock& block) {
  const auto staged = read_staging(disk, block);
  if (!staged) return staged.error();
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
