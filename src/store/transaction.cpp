// Transactions: one at a time. What a commit does stands in StoreState::commit(), in order.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "store/detect/loading.hpp"
#include "store/pages/diff.hpp"
#include "store/store_state.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

// Without durability the log goes to the file in pieces of this size; arbitrary.
constexpr std::size_t kWriteBehind = std::size_t{1} << 20;

Outcome no_memory() noexcept { return {"transaction", ENOMEM, {}, "for what has changed"}; }

}  // namespace

bool StoreState::in_transaction() const noexcept {
  return writer_.load(std::memory_order_acquire) == this_thread_mark();
}

Outcome StoreState::check_process() const noexcept {
  if (process_ == process_generation()) return kDone;
  return {"store", EBADF, {}, "a fork()ed child does not have its parent's stores"};
}

Outcome StoreState::check_usable() const {
  if (const Outcome outcome = check_process(); failed(outcome)) return outcome;
  if (closed_) return {"transaction", EBADF, {}, "the store is closed"};
  return broken_;
}

Outcome StoreState::begin() {
  // Before the lock, which a thread of the parent may have had.
  if (const Outcome outcome = check_process(); failed(outcome)) return outcome;
  if (in_transaction()) return {"transaction", EDEADLK, {}, "this thread is in one already"};
  access_.lock();
  if (const Outcome outcome = check_usable(); failed(outcome)) {
    access_.unlock();
    return outcome;
  }
  const void* const self = this_thread_mark();
  writer_.store(self, std::memory_order_release);
  detector_->set_writer(self);
  if (options_.check_strays)
    if (const Outcome outcome = find_strays(); failed(outcome)) {
      leave();
      return outcome;
    }
  return kDone;
}

void StoreState::leave() noexcept {
  retyped_.clear();
  typed_objects_.clear();
  detector_->set_writer(nullptr);
  writer_.store(nullptr, std::memory_order_release);
  access_.unlock();
}

// With the pages that may have been written without being found: in order, each once.
void StoreState::add_open(std::vector<PageNumber>& pages) const {
  for (PageNumber page = 0; page < kHotPages; ++page) pages.push_back(page);
  const auto open = detector_->open_pages();
  pages.insert(pages.end(), open.begin(), open.end());
  std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
}

// What was written while no transaction was running, and did not trap. It is put back: kept, it
// would become part of whatever is committed next.
Outcome StoreState::find_strays() {
  pages_.clear();
  if (detector_->finds_strays())
    if (const Outcome outcome = detector_->collect(pages_); failed(outcome)) return outcome;
  // Also those written with what was there already: they are to be found when they are written
  // again.
  const bool to_arm = !pages_.empty();
  add_open(pages_);
  std::uint64_t strays = 0;
  for (const PageNumber page : pages_) {
    if (const Outcome outcome = committed_->materialise(page); failed(outcome)) return outcome;
    if (std::memcmp(committed_->image(page), live(page), kPageBytes) == 0) continue;
    report_stray(live(page));
    ++strays;
  }
  statistics_.strays += strays;
  return strays == 0 && !to_arm ? kDone : put_back(pages_);
}

// `pages` as they were committed. What that writes is not the next transaction's.
Outcome StoreState::put_back(std::span<const PageNumber> pages) {
  for (const PageNumber page : pages) {
    if (const Outcome outcome = committed_->materialise(page); failed(outcome)) return outcome;
    if (std::memcmp(live(page), committed_->image(page), kPageBytes) != 0)
      std::memcpy(live(page), committed_->image(page), kPageBytes);
  }
  std::vector<PageNumber> touched;
  if (const Outcome outcome = detector_->collect(touched); failed(outcome)) return outcome;
  touched.insert(touched.end(), pages.begin(), pages.end());
  add_open(touched);
  const std::vector<std::uint8_t> unchanged(touched.size(), 0);
  return detector_->rearm(touched, unchanged);
}

// The pages of the transaction that ends. After an error it is not known which were written, so
// they cannot all be put back.
Outcome StoreState::collect_written() noexcept {
  pages_.clear();
  Outcome outcome = kDone;
  try {
    outcome = detector_->collect(pages_);
    add_open(pages_);
  } catch (const std::bad_alloc&) {
    outcome = no_memory();
  }
  if (failed(outcome) && !failed(broken_)) broken_ = outcome;
  return outcome;
}

void StoreState::rollback() noexcept {
  if (failed(check_process())) return;
  static_cast<void>(collect_written());  // it has told broken_
  abandon();
}

// Everything in `pages_` as it was.
void StoreState::abandon() noexcept {
  Outcome outcome = kDone;
  try {
    outcome = put_back(pages_);
  } catch (const std::bad_alloc&) {
    outcome = no_memory();
  }
  // The memory may hold half a transaction now.
  if (failed(outcome) && !failed(broken_)) broken_ = outcome;
  statistics_.aborts += 1;
  leave();
}

// The changed bytes of all collected pages, as the record's payload.
Outcome StoreState::compare() {
  payload_.clear();
  changed_.assign(pages_.size(), 0);
  const auto compare_piece = [&](const Piece& piece) {
    return diff_page(piece.page, committed_->image(piece.page), live(piece.page), piece.begin,
                     piece.end, payload_);
  };
  const auto pieces = detector_->pieces();
  for (const Piece& piece : pieces) compare_piece(piece);
  for (std::size_t i = 0; i < pages_.size(); ++i) {
    if (const Outcome outcome = committed_->materialise(pages_[i]); failed(outcome)) return outcome;
    if (!pieces.empty() && pages_[i] >= kHotPages) continue;
    changed_[i] = compare_piece({pages_[i], 0, kPageBytes}) ? 1 : 0;
    statistics_.pages_changed += changed_[i];
  }
  statistics_.pages_compared += pages_.size();
  return kDone;
}

Outcome StoreState::grow_file() {
  const std::uint64_t needed = pages_.back() + std::uint64_t{1};
  if (needed <= committed_->file_pages()) return kDone;
  const std::uint64_t now = offset_of_sums(0, committed_->file_pages() / kGroupPages);
  const std::uint64_t groups = (needed + kGroupPages - 1) / kGroupPages;
  const std::uint64_t most = block_.reserve_bytes / kPageBytes / kGroupPages;
  const std::uint64_t more = (now + std::max(kGroupBytes, now / 8)) / kGroupBytes;
  // With room to spare if there is any, else exactly.
  Outcome outcome = kDone;
  for (const std::uint64_t wanted : {std::min(std::max(groups, more), most), groups}) {
    outcome = disk_->extend(offset_of_sums(block_.data_offset, wanted));
    if (failed(outcome)) continue;
    committed_->set_file_pages(wanted * kGroupPages);
    return kDone;
  }
  return outcome;
}

// A new epoch on the medium before the first record of it: sectors of a record that was cut off are
// dead then. Until there is one, the file is as it was found.
Outcome StoreState::begin_epoch() {
  if (epoch_begun_) return kDone;
  const Outcome outcome = checkpoint_->begin_epoch();
  epoch_begun_ = !failed(outcome);
  return outcome;
}

Outcome StoreState::prepare_log() {
  if (failed(log_->failure())) return log_->failure();
  if (const Outcome outcome = begin_epoch(); failed(outcome)) return outcome;
  if (!log_->fits_at_all(payload_.size()))
    return {"transaction",
            EFBIG,
            {},
            "it changes more than half of the log can hold: "
            "StoreOptions::log_bytes of a new store, or smaller steps"};
  // A checkpoint does not need the transaction's lock.
  while (!log_->has_room(payload_.size()))
    if (const Outcome outcome = checkpoint_->run(commits_); failed(outcome)) return outcome;
  return kDone;
}

// The same runs with what was there before, for when the log turns out not to be durable.
void StoreState::remember_undo() {
  const std::uint64_t durable = log_->durable();
  std::vector<std::byte> before;
  while (!undo_.empty() && undo_.front().end <= durable) {
    before.swap(undo_.front().payload);  // its memory
    undo_.pop_front();
  }
  before = payload_;
  for_each_run(payload_, [&](const Run& run, const std::byte* bytes) {
    std::memcpy(
        before.data() + (bytes - payload_.data()),
        committed_->image(static_cast<PageNumber>(run.place / kPageBytes)) + run.place % kPageBytes,
        run.length);
  });
  undo_.push_back({0, std::move(before)});
}

// To the log, and to the image. What needs memory comes before the log has it.
std::uint64_t StoreState::apply() {
  const std::lock_guard guard(committed_->changed_lock());
  committed_->reserve_changed(pages_.size() + retyped_.words.size());
  const std::vector<std::byte>& logged = payload_for_file();
  const bool undoes = options_.durability == Durability::full;
  if (undoes) remember_undo();
  const std::uint64_t end = log_->append(logged, commits_.fetch_add(1) + 1);
  if (undoes) undo_.back().end = end;
  for (const PageNumber page : retyped_.tables) tables_.add(page);
  for_each_run(payload_, [&](const Run& run, const std::byte* bytes) {
    const auto page = static_cast<PageNumber>(run.place / kPageBytes);
    std::memcpy(committed_->image(page) + run.place % kPageBytes, bytes, run.length);
    committed_->mark_changed(page);
  });
  return end;
}

Result<std::uint64_t> StoreState::commit() noexcept {
  try {
    return try_commit();
  } catch (const std::bad_alloc&) {
    // The log does not have it: see apply().
    abandon();
    return no_memory();
  }
}

Result<std::uint64_t> StoreState::try_commit() {
  if (const Outcome outcome = check_process(); failed(outcome)) return outcome;
  Outcome outcome = collect_written();
  if (!failed(outcome)) outcome = compare();
  if (!failed(outcome)) outcome = add_retyped();
  if (!failed(outcome)) outcome = check_pointers();
  std::uint64_t end = 0;
  if (!failed(outcome) && payload_.empty()) {
    // What it has read may not be durable yet: its reader waits for that as well.
    end = log_->appended();
  } else if (!failed(outcome)) {
    outcome = prepare_log();
    if (!failed(outcome)) outcome = grow_file();
    if (!failed(outcome)) {
      end = apply();
      statistics_.commits += 1;
      statistics_.payload_bytes += payload_.size();
    }
  }
  if (failed(outcome)) {
    abandon();
    return outcome;
  }
  try {
    outcome = detector_->rearm(pages_, changed_);
  } catch (const std::bad_alloc&) {
    outcome = no_memory();  // of the next transactions: this one is in the log
  }
  if (failed(outcome)) broken_ = outcome;
  const bool checkpoint = log_->is_half_full();
  leave();
  if (checkpoint) {
    const std::lock_guard guard(wish_lock_);
    wanted_ = true;
    wish_->notify_one();
  }
  return end;
}

Outcome StoreState::wait(std::uint64_t end) {
  if (const Outcome outcome = check_process(); failed(outcome)) return outcome;
  if (in_transaction()) return {"waiting for a commit", EDEADLK, {}, "not inside a transaction"};
  if (end > log_->appended())
    return {"waiting for a commit", EINVAL, {}, "a position that this store's log does not have"};
  const Outcome outcome = log_->wait_durable(end);
  if (failed(outcome)) undo_what_is_not_durable();
  return outcome;
}

Outcome StoreState::wait_as_opened(std::uint64_t end) {
  if (options_.durability == Durability::full) return wait(end);
  // An error is the next transaction's: this one has happened, and cannot be undone any more.
  static_cast<void>(log_->write_behind(kWriteBehind));
  return check_process();
}

// The log could not be written. Those who wait are told so, and memory goes back to what is on the
// medium: what a program sees after an error is never more than what it will find again. Newest
// first, since a later commit may have changed the same bytes.
void StoreState::undo_what_is_not_durable() {
  const std::lock_guard guard(access_);
  if (!failed(broken_)) broken_ = log_->failure();
  const std::uint64_t durable = log_->durable();
  writer_.store(this_thread_mark(), std::memory_order_release);
  detector_->set_writer(this_thread_mark());
  std::vector<PageNumber> pages;
  {
    const std::lock_guard changing(committed_->changed_lock());
    for (; !undo_.empty() && undo_.back().end > durable; undo_.pop_back()) {
      for_each_run(undo_.back().payload, [&](const Run& run, const std::byte* bytes) {
        const auto page = static_cast<PageNumber>(run.place / kPageBytes);
        std::memcpy(committed_->image(page) + run.place % kPageBytes, bytes, run.length);
        pages.push_back(page);
      });
    }
  }
  std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
  // An error here changes nothing: the store is broken already.
  static_cast<void>(put_back(pages));
  detector_->set_writer(nullptr);
  writer_.store(nullptr, std::memory_order_release);
}

Outcome StoreState::declare(const void* address, std::size_t length) {
  if (!in_transaction()) return {"Transaction::write", EPERM, {}, "outside a transaction"};
  const PageRange pages = pages_covering(address, length);
  if (length == 0) return kDone;
  if (!range().contains(pages)) return {"Transaction::write", EINVAL, pages, "not in the store"};
  // In units of 8 bytes, page by page.
  const auto first =
      static_cast<std::size_t>(static_cast<const std::byte*>(address) - range().base);
  const std::size_t end = (first + length + 7) / 8 * 8;
  for (std::size_t at = first / 8 * 8; at < end;) {
    const auto page = static_cast<PageNumber>(at / kPageBytes);
    const std::size_t page_begin = std::size_t{page} * kPageBytes;
    const std::size_t piece_end = std::min(end, page_begin + kPageBytes);
    if (page >= kHotPages)
      detector_->declare({page, static_cast<std::uint32_t>(at - page_begin),
                          static_cast<std::uint32_t>(piece_end - page_begin)});
    at = piece_end;
  }
  return kDone;
}

// A byte of each page is written with its own value: the faults are taken here.
Outcome StoreState::prepare(void* address, std::size_t length) {
  if (const Outcome outcome = declare(address, length); failed(outcome)) return outcome;
  const PageRange pages = pages_covering(address, length);
  for (std::byte* page = pages.base; page < pages.end(); page += kPageBytes) {
    // Nobody else writes here. volatile: compilers turn an atomic "or 0" into a read.
    auto& byte = *reinterpret_cast<volatile std::uint8_t*>(page);
    const std::uint8_t value = byte;
    byte = value;
  }
  return kDone;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
