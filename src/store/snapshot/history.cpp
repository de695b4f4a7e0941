#include "store/snapshot/history.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "store/disk/locks.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

constexpr mode_t kModeOfData = 0666;

}  // namespace

Result<std::unique_ptr<History>> History::create(Disk& disk, const Superblock& block) {
  const SharedFile* const shared = disk.shared();
  if (shared == nullptr) return std::unique_ptr<History>();
  std::unique_ptr<History> made(new History(disk, *shared, block));
  struct stat facts {};
  if (::fstat(shared->descriptor.get(), &facts) != 0) return Error{"fstat of a store", errno};
  made->inode_ = facts.st_ino;
  auto saved = SparseArray<std::uint32_t>::create(block.reserve_bytes / kPageBytes);
  if (!saved) return saved.error();
  made->saved_ = std::move(*saved);
  auto buffer = SparseArray<std::byte>::create((head_pages(kMostStagedPages) + kMostStagedPages) *
                                               kPageBytes);
  if (!buffer) return buffer.error();
  made->buffer_ = std::move(*buffer);
  made->remove_if_unused();
  return made;
}

// A child has no locks, and must leave its parent's history alone.
History::~History() { remove_if_unused(); }

// Else what is beside it is another store's.
bool History::store_is_at_its_path() noexcept {
  struct stat facts {};
  struct stat ours {};
  return ::stat(shared_.path.c_str(), &facts) == 0 &&
         ::fstat(shared_.descriptor.get(), &ours) == 0 && facts.st_ino == ours.st_ino &&
         facts.st_dev == ours.st_dev;
}

// RACE a snapshot is being taken while nobody is seen: the lock excludes it until the file is gone.
void History::remove_if_unused() noexcept {
  if (!file_.valid() && ::access(path_.c_str(), F_OK) != 0) return;
  const int descriptor = shared_.descriptor.get();
  if (failed(set_lock(descriptor, Lock::exclusive, kSnapshotLocks))) return;
  if (store_is_at_its_path()) ::unlink(path_.c_str());
  file_.close();
  end_ = forgotten_ = kFirstHistoryPage;
  saved_.clear();
  // An error leaves the lock to the end of the store: snapshots are refused, and told why.
  static_cast<void>(set_lock(descriptor, Lock::none, kSnapshotLocks));
}

Outcome History::keep(std::span<const BeforeImage> images) {
  auto in_use = snapshots_in_use(shared_.descriptor.get());
  if (!in_use) return in_use.error();
  if (!*in_use) {
    remove_if_unused();
    in_use = snapshots_in_use(shared_.descriptor.get());
    if (!in_use) return in_use.error();
    if (!*in_use) return kDone;
  }
  // One copy serves all snapshots that were taken before it was made.
  wanted_.clear();
  for (const BeforeImage& image : images)
    if (saved_[image.page] == 0 || saved_[image.page] < (*in_use)->newest) wanted_.push_back(image);
  if (wanted_.empty()) return kDone;
  if (const Outcome outcome = open(); failed(outcome)) return outcome;
  for (std::span<BeforeImage> rest(wanted_); !rest.empty();) {
    const auto some = rest.first(std::min(rest.size(), kMostStagedPages));
    if (const Outcome outcome = append(some); failed(outcome)) {
      // What a full disk has taken of it, nobody needs.
      static_cast<void>(::ftruncate(file_.get(), static_cast<off_t>(end_ * kPageBytes)));
      return outcome;
    }
    rest = rest.subspan(some.size());
  }
  // RACE one that is being taken has read where the history ends, and has not said so yet.
  const bool joining = (*in_use)->newest == kMostHistoryPages;
  if (!joining) forget_before((*in_use)->oldest);
  return kDone;
}

Outcome History::open() {
  if (!store_is_at_its_path())
    return {
        "history of a store", ESTALE, {}, "the store has been moved: snapshots would not find it"};
  if (file_.valid()) {
    struct stat facts {};
    if (::fstat(file_.get(), &facts) != 0) return {"fstat of a store's history", errno};
    if (facts.st_nlink != 0) return kDone;
    return {"history of a store", ESTALE, {}, "somebody has removed it"};
  }
  if (file_.open(path_.c_str(), O_RDWR | O_NOFOLLOW))
    if (const Outcome outcome = continue_file(); outcome.number != ENOENT) return outcome;
  // Whoever may read the store may read what it was.
  struct stat facts {};
  if (::fstat(shared_.descriptor.get(), &facts) != 0) return {"fstat of a store", errno};
  if (!file_.open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600))
    return {"making a store's history", errno};
  end_ = forgotten_ = kFirstHistoryPage;
  saved_.clear();
  Outcome outcome = kDone;
  // Their owner may differ from ours where a group shares the store; then the mode decides.
  if (::fchown(file_.get(), facts.st_uid, facts.st_gid) != 0 && errno != EPERM)
    outcome = {"fchown of a store's history", errno};
  if (!failed(outcome) && ::fchmod(file_.get(), facts.st_mode & kModeOfData) != 0)
    outcome = {"fchmod of a store's history", errno};
  if (!failed(outcome)) outcome = write_end();
  if (!failed(outcome)) return kDone;
  ::unlink(path_.c_str());
  file_.close();
  return outcome;
}

// Of a writer that has died, for snapshots that live on. ENOENT: it is not this store's, and gone.
Outcome History::continue_file() {
  HistoryHead head;
  if (sys::pread_all(file_.get(), &head, sizeof head, 0) == 0 && head.magic == kHistoryMagic &&
      head.seed == seed_ && head.inode == inode_ && head.end == ~head.end_inverted &&
      head.end >= kFirstHistoryPage && head.end < kMostHistoryPages) {
    end_ = head.end;
    return kDone;
  }
  file_.close();
  if (::unlink(path_.c_str()) != 0) return {"removing a store's history", errno};
  return {"history of a store", ENOENT};
}

Outcome History::write_end() noexcept {
  const HistoryHead head{kHistoryMagic, seed_, inode_, end_, ~end_};
  const int error = sys::pwrite_all(file_.get(), &head, sizeof head, 0);
  return error == 0 ? kDone : Outcome{"write of a store's history", error, {}, "", 0};
}

// What cannot be read nobody can give to a snapshot: zeroes, whose checksum does not agree. What
// was half written has been kept before by whoever wrote it; snapshots taken since want what is
// staged.
void History::read_contents(std::span<BeforeImage> images, std::byte* to) noexcept {
  const auto place = [&](std::size_t i) { return offset_of_page(data_offset_, images[i].page); };
  for (std::size_t i = 0; i < images.size();) {
    if (images[i].sum == 0) {
      ++i;
      continue;
    }
    std::size_t count = 1;
    while (i + count < images.size() && images[i + count].sum != 0 &&
           place(i + count) == place(i) + count * kPageBytes)
      ++count;
    const bool all = !failed(disk_.read({to, count * kPageBytes}, place(i)));
    for (const std::size_t end = i + count; i < end; ++i, to += kPageBytes) {
      BeforeImage& image = images[i];
      if (!all && failed(disk_.read({to, kPageBytes}, place(i)))) std::memset(to, 0, kPageBytes);
      if (image.staged == nullptr ||
          page_checksum({to, kPageBytes}, image.page, seed_) == image.sum)
        continue;
      std::memcpy(to, image.staged, kPageBytes);
      image.sum = page_checksum({to, kPageBytes}, image.page, seed_);
    }
  }
}

// RACE snapshots read while this writes: nothing before `end` changes, and `end` comes last.
Outcome History::append(std::span<BeforeImage> images) {
  const std::uint64_t heads = head_pages(images.size());
  read_contents(images, buffer_.data() + heads * kPageBytes);
  std::memset(buffer_.data(), 0, heads * kPageBytes);
  auto* const entries = reinterpret_cast<HistoryEntry*>(buffer_.data() + sizeof(HistoryBatch));
  HistoryBatch batch;
  batch.count = images.size();
  for (std::size_t i = 0; i < images.size(); ++i) {
    entries[i] = {images[i].page, images[i].sum};
    batch.contents += images[i].sum != 0 ? 1 : 0;
  }
  batch.sum = sum_of(batch, seed_);
  for (std::size_t i = 0; i < images.size(); i += kEntriesAtOnce)
    batch.sum = add_to_sum(batch.sum, {entries + i, std::min(kEntriesAtOnce, images.size() - i)});
  std::memcpy(buffer_.data(), &batch, sizeof batch);
  const std::uint64_t pages = heads + batch.contents;
  const std::uint64_t at = end_;
  if (at + pages >= kMostHistoryPages) return {"history of a store", EFBIG};
  const int error =
      sys::pwrite_all(file_.get(), buffer_.data(), pages * kPageBytes, at * kPageBytes);
  if (error != 0)
    return {
        "write of a store's history", error, {}, "", static_cast<std::int64_t>(at * kPageBytes)};
  end_ = at + pages;
  if (const Outcome outcome = write_end(); failed(outcome)) {
    end_ = at;
    return outcome;
  }
  for (const BeforeImage& image : images) saved_[image.page] = static_cast<std::uint32_t>(at);
  return kDone;
}

// Snapshots that are refreshed again and again keep the file, but not its room.
void History::forget_before(std::uint64_t page) noexcept {
  if (page <= forgotten_) return;
  // Where the file system cannot, it stays as long as there are snapshots.
  static_cast<void>(
      sys::punch_hole(file_.get(), forgotten_ * kPageBytes, (page - forgotten_) * kPageBytes));
  forgotten_ = page;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
