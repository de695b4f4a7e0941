#include "store/snapshot/snapshot_pages.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <numeric>
#include <thread>

#include "store/disk/locks.hpp"
#include "store/format/superblock.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

// Damage that is still there after so many looks is none that a writer is about to make good.
constexpr unsigned kLooks = 50;

/// Some lock of this file, for a scope.
class Joining {
 public:
  explicit Joining(int file) noexcept : file_(file) {}
  ~Joining() { static_cast<void>(set_lock(file_, Lock::none, kJoiningLock)); }
  Joining(const Joining&) = delete;
  Joining& operator=(const Joining&) = delete;
  // The writer has it for as long as it takes to remove a file.
  Outcome begin() noexcept {
    Outcome outcome = set_lock(file_, Lock::shared, kJoiningLock);
    for (sys::Patience patience; outcome.number == EBUSY && patience.wait();)
      outcome = set_lock(file_, Lock::shared, kJoiningLock);
    return outcome;
  }

 private:
  int file_;
};

void sort_by_offset(Staged& staged) {
  std::vector<std::size_t> order(staged.entries.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return staged.entries[a].offset < staged.entries[b].offset;
  });
  Staged sorted;
  for (const std::size_t i : order) {
    sorted.entries.push_back(staged.entries[i]);
    sorted.pages.push_back(staged.pages[i]);
  }
  staged = std::move(sorted);
}

}  // namespace

Result<std::unique_ptr<SnapshotPages>> SnapshotPages::open(const std::string& path) {
  std::unique_ptr<SnapshotPages> made(new SnapshotPages);
  auto disk = FileDisk::open(path, FileUse::shared);
  if (!disk) return disk.error();
  made->disk_ = std::move(*disk);
  const SharedFile& shared = *made->disk_->shared();
  struct stat facts {};
  if (::fstat(shared.descriptor.get(), &facts) != 0) return Error{"fstat of a store", errno};
  if (facts.st_nlink > 1)
    return Error{"snapshot of a store",
                 ENOTSUP,
                 {},
                 "the file has several names: the writer's history may be beside another one"};
  made->inode_ = facts.st_ino;
  Joining joining(shared.descriptor.get());
  if (const Outcome outcome = joining.begin(); failed(outcome)) return outcome;
  const auto found = read_superblock(*made->disk_);
  // What is half written now is looked at again by take().
  if (!found && found.error().number != EBADMSG) return found.error();
  if (const Outcome outcome = made->take(made->taken_); failed(outcome)) return outcome;
  if (const Outcome outcome = made->keep_place(made->taken_); failed(outcome)) return outcome;
  return made;
}

// Until two looks at the superblock find the same one: then it was so all the time between.
Outcome SnapshotPages::take(Taken& taken) {
  unsigned looks = 0;
  sys::Patience patience;
  for (;;) {
    bool steady = false;
    const Outcome outcome = try_to_take(taken, steady);
    if (!failed(outcome) && steady) return kDone;
    // RACE what a writer is writing looks damaged, or ends early.
    const bool torn = outcome.number == EBADMSG || outcome.number == EIO;
    if (failed(outcome) && (!torn || ++looks == kLooks)) return outcome;
    if (torn) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (!patience.wait())
      return {"snapshot of a store", EAGAIN, {}, "checkpoints follow one another too fast"};
  }
}

// The order is the protocol: see the design page before changing it.
Outcome SnapshotPages::try_to_take(Taken& taken, bool& steady) {
  const auto found = read_superblock(*disk_);
  if (!found) return found.error();
  taken.block = found->block;
  taken.intact = found->intact;
  const std::size_t pages = taken.block.reserve_bytes / kPageBytes;
  if (kept_.pages() != pages)
    if (const Outcome outcome =
            kept_.create(disk_->shared()->path, taken.block.seed, inode_, pages);
        failed(outcome))
      return outcome;
  if (const Outcome outcome = kept_.find_end(taken.history_page); failed(outcome)) return outcome;
  taken.staged = {};
  if ((taken.block.flags & kCleanFlag) == 0) {
    auto staged = read_staging(*disk_, taken.block);
    if (!staged) return staged.error();
    taken.staged = std::move(*staged);
    sort_by_offset(taken.staged);
  }
  auto runs = PendingRuns::create(pages, taken.block.log_bytes);
  if (!runs) return runs.error();
  taken.runs = std::move(*runs);
  // A sector that is torn is the end, unless a later record knows it: the last write may be under
  // way.
  const auto log = recover_log(*disk_, taken.block, true, taken.runs);
  if (!log) return log.error();
  taken.log = *log;
  taken.file_pages = std::min<std::uint64_t>(
      groups_in(taken.block.data_offset, disk_->size()) * kGroupPages, pages);
  taken.stored_pages = taken.file_pages;
  for (const PageNumber page : taken.runs.pages())
    taken.stored_pages = std::max<std::uint64_t>(taken.stored_pages, page + std::uint64_t{1});
  const auto again = read_superblock(*disk_);
  if (!again) return again.error();
  steady = again->block.generation == taken.block.generation;
  return kDone;
}

// From the lock of those who do not know yet to that of those who do: there is no instant without.
Outcome SnapshotPages::keep_place(const Taken& taken) {
  const Outcome outcome =
      set_lock(disk_->shared()->descriptor.get(), Lock::shared, snapshot_lock(taken.history_page));
  if (!failed(outcome)) kept_.start_at(taken.history_page);
  return outcome;
}

Result<SnapshotPages::Changes> SnapshotPages::refresh() {
  const int file = disk_->shared()->descriptor.get();
  Joining joining(file);
  if (const Outcome outcome = joining.begin(); failed(outcome)) return outcome;
  Taken next;
  if (const Outcome outcome = take(next); failed(outcome)) return outcome;
  auto changes = changes_to(next);
  if (!changes) return changes.error();
  if (const Outcome outcome = keep_place(next); failed(outcome)) return outcome;
  const std::uint64_t before = taken_.history_page;
  const bool moved = before != next.history_page;
  taken_ = std::move(next);
  // An error costs the writer room: it keeps what this snapshot would have wanted.
  if (moved) static_cast<void>(set_lock(file, Lock::none, snapshot_lock(before)));
  return changes;
}

// A page whose contents differ was overwritten since, then the history has it; or it has runs in
// the log as it is now.
Result<SnapshotPages::Changes> SnapshotPages::changes_to(const Taken& next) {
  Changes changes;
  changes.any = next.log.commits != taken_.log.commits || next.log.next != taken_.log.next ||
                next.block.generation != taken_.block.generation;
  if (!changes.any) return changes;
  Outcome outcome = kept_.look();
  if (!failed(outcome)) outcome = kept_.list(changes.pages);
  const auto runs = next.runs.pages();
  changes.pages.insert(changes.pages.end(), runs.begin(), runs.end());
  std::sort(changes.pages.begin(), changes.pages.end());
  changes.pages.erase(std::unique(changes.pages.begin(), changes.pages.end()), changes.pages.end());
  changes.all = failed(outcome) || next.block.snapshots_lost >= taken_.block.generation;
  return changes;
}

const std::byte* SnapshotPages::staged(std::uint64_t offset) const noexcept PAGETRAP_SIGNAL_SAFE {
  const StagedPage* const begin = taken_.staged.entries.data();
  std::size_t low = 0;
  std::size_t high = taken_.staged.entries.size();
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    if (begin[middle].offset < offset) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const bool found = low < taken_.staged.entries.size() && begin[low].offset == offset;
  return found ? taken_.staged.pages.data()[low].bytes.data() : nullptr;
}

std::uint64_t SnapshotPages::sum_of(PageNumber page, std::uint64_t in_file) const noexcept
    PAGETRAP_SIGNAL_SAFE {
  const std::byte* const sums =
      staged(offset_of_sums(taken_.block.data_offset, page / kGroupPages));
  if (sums == nullptr) return in_file;
  std::uint64_t sum = 0;
  std::memcpy(&sum, sums + page % kGroupPages * sizeof sum, sizeof sum);
  return sum;
}

// Both copies of the superblock say so before the first page is overwritten without being kept.
Outcome SnapshotPages::check_not_lost() noexcept PAGETRAP_SIGNAL_SAFE {
  for (const std::uint64_t slot : kSlotOffsets) {
    std::uint64_t lost = 0;
    if (const Outcome outcome = disk_->read({reinterpret_cast<std::byte*>(&lost), sizeof lost},
                                            slot + offsetof(Superblock, snapshots_lost));
        failed(outcome))
      return outcome;
    if (lost < taken_.block.generation) return kDone;
  }
  return {"snapshot of a store",
          ESTALE,
          {},
          "the writer had no room to keep what it overwrote: refresh() it"};
}

Outcome SnapshotPages::read_run(PageNumber first, std::size_t count, std::byte* to,
                                std::uint64_t* sums) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint64_t data = taken_.block.data_offset;
  const std::uint64_t place =
      offset_of_sums(data, first / kGroupPages) + first % kGroupPages * sizeof(std::uint64_t);
  if (const Outcome outcome =
          disk_->read({reinterpret_cast<std::byte*>(sums), count * sizeof(std::uint64_t)}, place);
      failed(outcome))
    return outcome;
  return disk_->read({to, count * kPageBytes}, offset_of_page(data, first));
}

Outcome SnapshotPages::finish(PageNumber page, std::uint64_t sum, const Outcome& kept,
                              const Outcome& read, std::byte* contents) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const std::uint64_t offset = offset_of_page(taken_.block.data_offset, page);
  if (page >= taken_.file_pages) {
    std::memset(contents, 0, kPageBytes);
  } else if (const std::byte* const there = staged(offset); there != nullptr) {
    std::memcpy(contents, there, kPageBytes);
  } else if (failed(kept)) {
    return kept;
  } else if (kept_.has(page)) {
    if (const Outcome outcome = kept_.read(page, contents); failed(outcome)) return outcome;
  } else if (failed(read)) {
    return read;
  } else if (sum = sum_of(page, sum); sum == 0) {
    std::memset(contents, 0, kPageBytes);
  } else if (page_checksum({contents, kPageBytes}, page, taken_.block.seed) != sum) {
    return {"page of a store",
            EBADMSG,
            {},
            "its checksum does not agree: pagetrap store check",
            static_cast<std::int64_t>(offset)};
  }
  taken_.runs.apply(page, contents);
  return kDone;
}

// RACE a checkpoint overwrites the page while it is read: before it does, it has put what the page
// was into the history, or has said that it cannot. We look for that afterwards.
Outcome SnapshotPages::load(PageNumber first, std::size_t count, std::byte* to,
                            std::size_t& loaded) noexcept PAGETRAP_SIGNAL_SAFE {
  std::array<std::uint64_t, 64> sums{};
  Outcome read = kDone;
  if (first < taken_.file_pages) read = read_run(first, count, to, sums.data());
  const Outcome kept = kept_.look();
  if (!failed(read)) read = check_not_lost();
  for (loaded = 0; loaded < count; ++loaded) {
    const auto page = static_cast<PageNumber>(first + loaded);
    const Outcome outcome = finish(page, sums[loaded], kept, read, to + loaded * kPageBytes);
    if (failed(outcome)) return loaded == 0 ? outcome : kDone;
  }
  return kDone;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
