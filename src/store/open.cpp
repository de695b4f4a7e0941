// Opening a store: recovery, the heap. Where it is mapped: place.cpp.
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <pagetrap/vm/features.hpp>

#include "store/format/superblock.hpp"
#include "store/log/recovery.hpp"
#include "store/place.hpp"
#include "store/store_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

constexpr std::size_t kLeastLog = std::size_t{128} << 10;
constexpr std::size_t kMostReserve = std::size_t{1} << 40;
constexpr std::size_t kWhole = kGroupPages * kPageBytes;  // reserves are multiples of a group

std::int64_t now_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

Outcome check(const StoreOptions& options) {
  if (page_size() != kPageBytes)
    return {"Store::open", ENOTSUP, {}, "stores need pages of 4096 bytes"};
  if (options.log_bytes < kLeastLog || options.log_bytes % (64 * kPageBytes / 8) != 0 ||
      options.log_bytes > (std::size_t{1} << 34))
    return {"StoreOptions.log_bytes", EINVAL, {}, "128 KiB to 16 GiB, a multiple of 32 KiB"};
  if (options.reserve_bytes == 0 || options.reserve_bytes > kMostReserve)
    return {"StoreOptions.reserve_bytes", EINVAL, {}, "at most 1 TiB"};
  const auto address = reinterpret_cast<std::uintptr_t>(options.address);
  if (address % kOwnBytes != 0 || address == kOwnBytes)
    return {"StoreOptions.address", EINVAL, {}, "a multiple of 2 MiB, with 2 MiB before it"};
  return kDone;
}

}  // namespace

Outcome StoreState::format(Disk& disk, const StoreOptions& options, std::size_t staged) {
  if (const Outcome outcome = check(options); failed(outcome)) return outcome;
  Superblock block;
  block.log_unit = static_cast<std::uint32_t>(disk.unit());
  block.seed = random_word();
  block.generation = 1;
  block.reserve_bytes = (options.reserve_bytes + kWhole - 1) / kWhole * kWhole;
  block.base = options.address != nullptr ? reinterpret_cast<std::uintptr_t>(options.address)
                                          : random_base(block.reserve_bytes);
  block.staging_offset = kStagingOffset;
  block.staging_bytes = staging_bytes(staged);
  block.log_offset = kStagingOffset + block.staging_bytes;
  block.log_bytes = options.log_bytes;
  block.data_offset = block.file_bytes = block.log_offset + block.log_bytes;
  block.log_start = block.log_bytes / kSectorBytes;  // one lap: no sector is number 0
  block.flags = kCleanFlag;
  block.created_ns = now_ns();
  if (const Outcome outcome = disk.extend(block.file_bytes); failed(outcome)) return outcome;
  // Written, not only reserved: the first write to a reserved block changes the file system's
  // tables, and a commit would wait for that.
  auto zeroes = SparseArray<std::byte>::create(std::size_t{1} << 20);
  if (!zeroes) return zeroes.error();
  for (std::uint64_t at = kStagingOffset; at < block.data_offset;) {
    const std::size_t part = std::min<std::uint64_t>(zeroes->size(), block.data_offset - at);
    if (const Outcome outcome = disk.write({zeroes->data(), part}, at); failed(outcome))
      return outcome;
    at += part;
  }
  if (const Outcome outcome = disk.sync(); failed(outcome)) return outcome;
  return write_superblock(disk, block);
}

Result<std::unique_ptr<StoreState>> StoreState::open(std::unique_ptr<Disk> disk,
                                                     const StoreOptions& options) {
  if (const Outcome outcome = check(options); failed(outcome)) return outcome;
  const auto found = read_superblock(*disk);
  if (!found) return found.error();
  std::unique_ptr<StoreState> made(new StoreState(std::move(disk), options, found->block));
  watch_forks();
  made->process_ = process_generation();
  if (const Outcome outcome = made->recover(); failed(outcome)) return outcome;
  if (const Outcome outcome = made->map(); failed(outcome)) return outcome;
  if (const Outcome outcome = made->load_heap(); failed(outcome)) return outcome;
  if (options.verify_all)
    if (const Outcome outcome = made->verify_all(); failed(outcome)) return outcome;
  made->start_checkpointer();
  return made;
}

// Nothing is written to the data here: what the log has is applied to pages as they are loaded.
Outcome StoreState::recover() {
  const std::size_t pages = block_.reserve_bytes / kPageBytes;
  if (disk_->unit() > block_.log_unit)
    return {"Store::open", ENOTSUP, {}, "this disk's smallest write is larger than the log's unit"};
  if ((block_.flags & kCleanFlag) == 0)
    if (const auto replayed = replay_staging(*disk_, block_); !replayed) return replayed.error();
  auto pending = PendingRuns::create(pages, block_.log_bytes);
  if (!pending) return pending.error();
  const bool forgiving = options_.damaged_tail == DamagedTail::discard;
  const auto log = recover_log(*disk_, block_, forgiving, *pending);
  if (!log) return log.error();
  statistics_.recovered_commits = log->records;
  commits_.store(log->commits);
  const std::uint64_t file_pages =
      std::min<std::uint64_t>(groups_in(block_.data_offset, disk_->size()) * kGroupPages, pages);
  stored_pages_ = file_pages;
  for (const PageNumber page : pending->pages())
    stored_pages_ = std::max<std::size_t>(stored_pages_, page + std::size_t{1});
  auto committed =
      CommittedPages::create(*disk_, {block_.data_offset, block_.seed, pages}, std::move(*pending));
  if (!committed) return committed.error();
  committed_ = std::move(*committed);
  committed_->set_file_pages(file_pages);
  auto made =
      Log::create(*disk_, {block_.log_offset, block_.log_bytes, block_.log_unit, block_.seed});
  if (!made) return made.error();
  log_ = std::move(*made);
  was_clean_ = (block_.flags & kCleanFlag) != 0;
  block_.epoch = log->newest_epoch + 1;
  block_.generation += 1;
  block_.flags = 0;
  block_.version = kVersion;  // what is written from now on only this one understands
  log_->begin(block_.log_start, log->next, static_cast<std::uint32_t>(block_.epoch));
  auto checkpoint = Checkpoint::create(*disk_, *log_, *committed_, block_);
  if (!checkpoint) return checkpoint.error();
  checkpoint_ = std::move(*checkpoint);
  return kDone;
}

Outcome StoreState::load_heap() {
  HeapHeader& header = heap_.header();
  if (header.magic == kHeapMagic) {
    const std::size_t pages = block_.reserve_bytes / kPageBytes;
    if (header.used_pages > pages || header.bitmap_page != kHotPages)
      return {"heap of a store",
              EBADMSG,
              {},
              "its header makes no sense",
              static_cast<std::int64_t>(offset_of_page(block_.data_offset, 0))};
    grown_pages_ = header.used_pages;
    return detector_->grow(grown_pages_);
  }
  if (header.magic != 0 || commits_.load() != 0)
    return {"heap of a store",
            EBADMSG,
            {},
            "its header is not there",
            static_cast<std::int64_t>(offset_of_page(block_.data_offset, 0))};
  if (const Outcome outcome = begin(); failed(outcome)) return outcome;
  heap_.format();
  grown_pages_ = header.used_pages;
  if (const Outcome outcome = detector_->grow(grown_pages_); failed(outcome)) {
    rollback();
    return outcome;
  }
  const auto made = commit();
  if (!made) return made.error();
  return wait(*made);
}

Outcome StoreState::verify_all() {
  auto page = SparseArray<std::byte>::create(kPageBytes);
  if (!page) return page.error();
  for (PageNumber number = 0; number < stored_pages_; ++number)
    if (const Outcome outcome = committed_->load(number, page->data()); failed(outcome))
      return outcome;
  return kDone;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
