// compact(): a store written anew. The old file stays what it was until the new one has its name.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "store/disk/locks.hpp"
#include "store/format/checksum.hpp"
#include "store/format/superblock.hpp"
#include "store/inspect/file_view.hpp"
#include "store/store_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

// A group that has no page of worth is a hole; nothing of it is written.
Outcome copy_group(FileView& from, Disk& to, const Superblock& block, std::uint64_t group,
                   std::byte* buffer, bool& any) {
  auto* const sums = reinterpret_cast<std::uint64_t*>(buffer);
  std::byte* const contents = buffer + kPageBytes;
  std::memset(sums, 0, kPageBytes);
  any = false;
  for (std::size_t i = 0; i < kGroupPages; ++i) {
    const std::uint64_t number = group * kGroupPages + i;
    if (number >= from.used_pages()) break;
    const auto page = static_cast<PageNumber>(number);
    if (from.is_idle(page)) continue;
    if (const Outcome outcome = from.load(page, contents); failed(outcome)) return outcome;
    static constexpr std::byte kZeroes[kPageBytes]{};
    if (std::memcmp(contents, kZeroes, kPageBytes) == 0) continue;
    sums[i] = page_checksum({contents, kPageBytes}, page, block.seed);
    any = true;
    const std::uint64_t offset = offset_of_page(block.data_offset, page);
    if (const Outcome outcome = to.write({contents, kPageBytes}, offset); failed(outcome))
      return outcome;
  }
  if (!any) return kDone;
  return to.write({buffer, kPageBytes}, offset_of_sums(block.data_offset, group));
}

Outcome copy(FileView& from, Disk& to, std::uint64_t commits) {
  StoreOptions options;
  options.log_bytes = from.superblock().log_bytes;
  options.reserve_bytes = from.superblock().reserve_bytes;
  options.address = reinterpret_cast<void*>(from.superblock().base);
  if (const Outcome outcome = StoreState::format(to, options); failed(outcome)) return outcome;
  auto found = read_superblock(to);
  if (!found) return found.error();
  Superblock block = found->block;
  auto buffer = SparseArray<std::byte>::create(2 * kPageBytes);
  if (!buffer) return buffer.error();
  const std::uint64_t groups = (from.used_pages() + kGroupPages - 1) / kGroupPages;
  for (std::uint64_t group = 0; group < groups; ++group) {
    bool any = false;
    if (const Outcome outcome = copy_group(from, to, block, group, buffer->data(), any);
        failed(outcome))
      return outcome;
  }
  if (groups != 0) {
    // Whole groups, to the last page of the last one; what nobody wrote are holes.
    const auto last = static_cast<PageNumber>(groups * kGroupPages - 1);
    if (last >= from.used_pages()) {
      std::memset(buffer->data(), 0, kPageBytes);
      const std::uint64_t offset = offset_of_page(block.data_offset, last);
      if (const Outcome outcome = to.write({buffer->data(), kPageBytes}, offset); failed(outcome))
        return outcome;
    }
  }
  if (const Outcome outcome = to.sync(); failed(outcome)) return outcome;
  block.generation += 1;
  block.commits = commits;
  block.created_ns = from.superblock().created_ns;
  block.file_bytes = to.size();
  return write_superblock(to, block);
}

// One that is taken from now on needs nothing of a writer: the old file does not change any more.
Outcome check_no_snapshots(const std::string& path) {
  auto file = FileDisk::open(path, FileUse::shared);
  if (!file) return file.error();
  const auto in_use = snapshots_in_use((*file)->shared()->descriptor.get());
  if (!in_use) return in_use.error();
  if (!*in_use) return kDone;
  return {
      "compact", EBUSY, {}, "there are snapshots, which a new file would cut off their history"};
}

}  // namespace

Result<StoreInfo> compact(const std::string& path) {
  // Nobody opens it meanwhile: the lock goes with the old file, which has no name afterwards.
  StoreInfo before;
  auto from = FileView::open(path, DamagedTail::refuse, before);
  if (!from) return from.error();
  if (const Outcome outcome = check_no_snapshots(path); failed(outcome)) return outcome;
  if (const Outcome outcome = (*from)->verify_pages(); failed(outcome)) return outcome;
  const std::string temporary = FileDisk::name_beside(path);
  {
    auto to = FileDisk::open(temporary, FileUse::create);
    if (!to) return to.error();
    Outcome outcome = copy(**from, **to, before.commits);
    if (!failed(outcome) && std::rename(temporary.c_str(), path.c_str()) != 0)
      outcome = {"rename of a compacted store", errno};
    if (!failed(outcome)) outcome = sync_directory_of(path);
    if (failed(outcome)) {
      ::unlink(temporary.c_str());
      return outcome;
    }
  }
  StoreInfo after;
  auto view = FileView::open(path, DamagedTail::refuse, after);
  if (!view) return view.error();
  return after;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
