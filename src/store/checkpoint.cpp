#include "store/checkpoint.hpp"

#include <algorithm>
#include <cstring>

#include "store/format/checksum.hpp"
#include "store/format/superblock.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

// How many pages are copied while commits wait: 10 us.
constexpr std::size_t kCopyAtOnce = 32;

}  // namespace

Result<std::unique_ptr<Checkpoint>> Checkpoint::create(Disk& disk, Log& log, CommittedPages& pages,
                                                       const Superblock& block) {
  std::unique_ptr<Checkpoint> made(new Checkpoint(disk, log, pages, block));
  auto buffer = SparseArray<std::byte>::create(block.staging_bytes);
  if (!buffer) return buffer.error();
  made->buffer_ = std::move(*buffer);
  made->most_pages_ = staged_pages(block.staging_bytes);
  made->entries_.reserve(made->most_pages_);
  auto history = History::create(disk, block);
  if (!history) return history.error();
  made->history_ = std::move(*history);
  return made;
}

Outcome Checkpoint::run(const std::atomic<std::uint64_t>& commits) {
  const std::lock_guard guard(lock_);
  return run_locked(commits, false);
}

Outcome Checkpoint::close(const std::atomic<std::uint64_t>& commits) {
  const std::lock_guard guard(lock_);
  if (history_ != nullptr) history_->remove_if_unused();
  return run_locked(commits, true);
}

Outcome Checkpoint::begin_epoch() {
  const std::lock_guard guard(lock_);
  if (epoch_is_written_) return kDone;
  const Outcome outcome = write_superblock(disk_, block_);
  epoch_is_written_ = !failed(outcome);
  return outcome;
}

CheckpointStatistics Checkpoint::statistics() const {
  const std::lock_guard guard(lock_);
  return statistics_;
}

Outcome Checkpoint::run_locked(const std::atomic<std::uint64_t>& commits, bool clean) {
  // What a failed one has left half written only the staging area can mend, while it has it.
  if (half_placed_)
    if (const Outcome outcome = write_in_place(); failed(outcome)) return outcome;
  std::vector<PageNumber> changed;
  Superblock next = block_;
  {
    // Every record before log_start is in the image, and its pages are in `changed`.
    const std::lock_guard guard(pages_.changed_lock());
    changed = pages_.take_changed();
    next.log_start = log_.appended();
    next.commits = commits.load();
    // RACE sectors of a batch that a crash tore may lie at log_start, from an earlier epoch.
    next.log_epoch = next.epoch;
  }
  Outcome outcome = changed.empty() ? kDone : make_room(changed.back());
  for (std::size_t done = 0; done < changed.size() && !failed(outcome);) {
    const auto rest = std::span<const PageNumber>(changed).subspan(done);
    const auto batch = rest.first(next_batch(rest));
    outcome = copy(batch);
    if (!failed(outcome)) outcome = add_sums(batch);
    if (!failed(outcome)) outcome = write_staging();
    if (!failed(outcome)) outcome = write_in_place();
    done += batch.size();
  }
  // Records before log_start may be forgotten only when nothing of them is missing: a commit whose
  // bytes are in no page is none.
  if (!failed(outcome)) outcome = log_.wait_durable(next.log_start);
  if (!failed(outcome)) {
    next.generation = block_.generation + 1;
    next.snapshots_lost = block_.snapshots_lost;
    next.file_bytes = std::max(next.file_bytes,
                               offset_of_sums(next.data_offset, pages_.file_pages() / kGroupPages));
    next.flags = clean ? kCleanFlag : 0;
    outcome = write_superblock(disk_, next);
  }
  if (failed(outcome)) {
    const std::lock_guard guard(pages_.changed_lock());
    for (const PageNumber page : changed) pages_.mark_changed(page);
    return outcome;
  }
  block_ = next;
  epoch_is_written_ = true;
  log_.release(next.log_start);
  statistics_.checkpoints += 1;
  statistics_.pages += changed.size();
  return kDone;
}

// The log of a session before may have pages that the file has no room for: it was cut, or the file
// system forgot that it had grown. Commits of this one make room before they are appended.
Outcome Checkpoint::make_room(PageNumber last) {
  const std::uint64_t groups = last / kGroupPages + std::uint64_t{1};
  if (groups * kGroupPages <= pages_.file_pages()) return kDone;
  const Outcome outcome = disk_.extend(offset_of_sums(pages_.data_offset(), groups));
  if (!failed(outcome)) pages_.set_file_pages(groups * kGroupPages);
  return outcome;
}

// As many pages as the staging area takes together with the checksums of their groups: a page and
// its checksum are never in two batches.
std::size_t Checkpoint::next_batch(std::span<const PageNumber> rest) {
  std::size_t staged = 0;
  std::size_t count = 0;
  std::uint64_t group = ~std::uint64_t{0};
  for (; count < rest.size(); ++count) {
    const std::uint64_t its = rest[count] / kGroupPages;
    const std::size_t more = its == group ? 1 : 2;
    if (staged + more > most_pages_) break;
    staged += more;
    group = its;
  }
  return count;
}

// RACE commits change pages while they are copied. What is copied may then hold bytes of records
// behind log_start; they must be durable before the page is, or a crash would leave half of a
// commit that never was. Redoing them over the page changes nothing.
Outcome Checkpoint::copy(std::span<const PageNumber> batch) {
  entries_.clear();
  batch_pages_ = batch.size();
  PageForms* const forms = pages_.forms();
  for (const PageNumber page : batch) {
    std::unique_lock<std::mutex> guard;
    // RACE what is loaded has the form that the map says, which commits change.
    if (forms != nullptr) guard = std::unique_lock(pages_.changed_lock());
    if (const Outcome outcome = pages_.materialise(page); failed(outcome)) return outcome;
  }
  for (std::size_t done = 0; done < batch.size(); done += kCopyAtOnce) {
    const std::lock_guard guard(pages_.changed_lock());
    const std::size_t end = std::min(done + kCopyAtOnce, batch.size());
    for (std::size_t i = done; i < end; ++i) {
      std::memcpy(staged(i), pages_.image(batch[i]), kPageBytes);
      // Here, while the map is that of the same commit.
      if (forms == nullptr) continue;
      if (const Outcome outcome = forms->exchange(batch[i], staged(i)); failed(outcome))
        return outcome;
    }
  }
  for (const PageNumber page : batch)
    entries_.push_back({offset_of_page(pages_.data_offset(), page), 0});
  return log_.wait_durable(log_.appended());
}

// The groups' checksum pages, as they will be. Those in memory stay what the file has until it has
// these: after an error nobody may take the new ones for true.
Outcome Checkpoint::add_sums(std::span<const PageNumber> batch) {
  for (std::size_t i = 0; i < batch.size();) {
    const std::uint64_t group = batch[i] / kGroupPages;
    if (const Outcome outcome = pages_.load_sums(group); failed(outcome)) return outcome;
    auto* const sums = reinterpret_cast<std::uint64_t*>(staged(entries_.size()));
    std::memcpy(sums, pages_.sums(group), kPageBytes);
    for (; i < batch.size() && batch[i] / kGroupPages == group; ++i)
      sums[batch[i] % kGroupPages] =
          page_checksum({staged(i), kPageBytes}, batch[i], pages_.seed());
    entries_.push_back({offset_of_sums(pages_.data_offset(), group), 0});
  }
  return kDone;
}

Outcome Checkpoint::write_staging() {
  std::memset(buffer_.data(), 0, kStagingHeadBytes);
  for (std::size_t i = 0; i < entries_.size(); ++i)
    entries_[i].sum = checksum({staged(i), kPageBytes}, pages_.seed() + entries_[i].offset);
  StagingHead head;
  head.count = entries_.size();
  std::memcpy(buffer_.data(), &head, sizeof head);
  std::memcpy(buffer_.data() + sizeof head, entries_.data(), entries_.size() * sizeof(StagedPage));
  const std::span<std::byte> all(buffer_.data(), kStagingHeadBytes + entries_.size() * kPageBytes);
  head.sum = checksum(all.first(kStagingHeadBytes), pages_.seed());
  std::memcpy(buffer_.data(), &head, sizeof head);
  statistics_.bytes += all.size();
  if (const Outcome outcome = disk_.write(all, block_.staging_offset); failed(outcome))
    return outcome;
  return disk_.sync();
}

// After an error no snapshot that there is may read the pages: it could not tell the old from the
// new. Those to come may.
Outcome Checkpoint::keep_for_snapshots() {
  if (history_ == nullptr) return kDone;
  images_.clear();
  for (std::size_t i = 0; i < batch_pages_; ++i) {
    const PageNumber page = page_at(pages_.data_offset(), entries_[i].offset);
    images_.push_back({page, pages_.sums(page / kGroupPages)[page % kGroupPages],
                       half_placed_ ? staged(i) : nullptr});
  }
  if (!failed(history_->keep(images_))) return kDone;
  Superblock told = block_;
  told.snapshots_lost = told.generation;
  told.generation += 1;
  if (const Outcome outcome = write_superblock(disk_, told); failed(outcome)) return outcome;
  block_ = told;
  epoch_is_written_ = true;
  return kDone;
}

Outcome Checkpoint::write_in_place() {
  if (const Outcome outcome = keep_for_snapshots(); failed(outcome)) return outcome;
  half_placed_ = true;
  // The pages of a batch are in order, the checksums behind them.
  for (std::size_t i = 0; i < entries_.size();) {
    std::size_t end = i + 1;
    while (end < entries_.size() && entries_[end].offset == entries_[end - 1].offset + kPageBytes)
      ++end;
    const std::span<const std::byte> run(staged(i), (end - i) * kPageBytes);
    if (const Outcome outcome = disk_.write(run, entries_[i].offset); failed(outcome))
      return outcome;
    statistics_.bytes += run.size();
    i = end;
  }
  if (const Outcome outcome = disk_.sync(); failed(outcome)) return outcome;
  half_placed_ = false;
  for (std::size_t i = batch_pages_; i < entries_.size(); ++i) {
    const std::uint64_t group = (entries_[i].offset - pages_.data_offset()) / kGroupBytes;
    std::memcpy(pages_.sums(group), staged(i), kPageBytes);
  }
  return kDone;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
