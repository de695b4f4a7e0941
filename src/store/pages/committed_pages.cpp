#include "store/pages/committed_pages.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "store/format/checksum.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

Result<std::unique_ptr<CommittedPages>> CommittedPages::create(Disk& disk, const Shape& shape,
                                                               PendingRuns pending) {
  std::unique_ptr<CommittedPages> made(new CommittedPages(disk, shape));
  Outcome outcome = kDone;
  const auto make = [&]<class T>(SparseArray<T>& array, std::size_t count) {
    if (failed(outcome)) return;
    auto created = SparseArray<T>::create(count);
    if (!created) {
      outcome = created.error();
      return;
    }
    array = std::move(*created);
  };
  const std::size_t groups = (shape.pages + kGroupPages - 1) / kGroupPages;
  make(made->image_, shape.pages * kPageBytes);
  make(made->state_, shape.pages);
  make(made->sums_, groups * kGroupPages);
  make(made->sums_state_, groups);
  make(made->is_changed_, shape.pages);
  if (failed(outcome)) return outcome;
  made->pending_ = std::move(pending);
  for (const PageNumber page : made->pending_.pages()) made->mark_changed(page);
  return made;
}

// RACE two threads want a group's sums: one reads them, the other waits, with signals blocked,
// since what interrupts the reader could wait for it for ever.
Outcome CommittedPages::load_sums(std::uint64_t group) noexcept PAGETRAP_SIGNAL_SAFE {
  std::atomic<std::uint8_t>& state = sums_state_[group];
  if (state.load(std::memory_order_acquire) == kPresent) return kDone;
  const sys::AllSignalsBlocked blocked(sys::AllSignalsBlocked::But::faults);
  for (;;) {
    std::uint8_t expected = kAbsent;
    if (state.compare_exchange_strong(expected, kFilling, std::memory_order_acq_rel)) break;
    if (expected == kPresent) return kDone;
    sys::yield();
  }
  Outcome outcome = kDone;
  if (group * kGroupPages < file_pages()) {
    outcome = disk_.read({reinterpret_cast<std::byte*>(sums(group)), kPageBytes},
                         offset_of_sums(shape_.data_offset, group));
  }
  state.store(failed(outcome) ? kAbsent : kPresent, std::memory_order_release);
  return outcome;
}

Outcome CommittedPages::load_from_file(PageNumber page, std::byte* to) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::uint64_t sum = 0;
  if (page < file_pages()) {
    if (const Outcome outcome = load_sums(page / kGroupPages); failed(outcome)) return outcome;
    sum = sums(page / kGroupPages)[page % kGroupPages];
  }
  if (sum == 0) {
    std::memset(to, 0, kPageBytes);
  } else {
    const std::uint64_t offset = offset_of_page(shape_.data_offset, page);
    if (const Outcome outcome = disk_.read({to, kPageBytes}, offset); failed(outcome))
      return outcome;
    if (page_checksum({to, kPageBytes}, page, shape_.seed) != sum)
      return {"page of a store",
              EBADMSG,
              {},
              "its checksum does not agree: pagetrap store check",
              static_cast<std::int64_t>(offset)};
  }
  pending_.apply(page, to);
  return forms_ == nullptr ? kDone : forms_->exchange(page, to);
}

// RACE a checkpoint may be writing the page to its place: then it is in the image, and what was
// read does not agree with its checksum, or its checksum is about to change.
Outcome CommittedPages::load(PageNumber page, std::byte* to) noexcept PAGETRAP_SIGNAL_SAFE {
  if (!in_image(page)) {
    const Outcome outcome = load_from_file(page, to);
    if (!in_image(page)) return outcome;
  }
  std::memcpy(to, image(page), kPageBytes);
  return kDone;
}

// Whoever gets the page fills it; the others wait. False: it is there.
bool CommittedPages::claim(PageNumber page) noexcept PAGETRAP_SIGNAL_SAFE {
  for (;;) {
    std::uint8_t expected = kAbsent;
    if (state_[page].compare_exchange_strong(expected, kFilling, std::memory_order_acq_rel)) {
      image_pages_.fetch_add(1, std::memory_order_relaxed);
      return true;
    }
    if (expected == kPresent) return false;
    sys::yield();
  }
}

Outcome CommittedPages::materialise(PageNumber page) noexcept PAGETRAP_SIGNAL_SAFE {
  if (in_image(page)) return kDone;
  const sys::AllSignalsBlocked blocked(sys::AllSignalsBlocked::But::faults);
  if (!claim(page)) return kDone;
  const Outcome outcome = load_from_file(page, image(page));
  state_[page].store(failed(outcome) ? kAbsent : kPresent, std::memory_order_release);
  return outcome;
}

void CommittedPages::adopt(PageNumber page, const std::byte* contents) noexcept
    PAGETRAP_SIGNAL_SAFE {
  if (in_image(page)) return;
  const sys::AllSignalsBlocked blocked(sys::AllSignalsBlocked::But::faults);
  if (!claim(page)) return;
  std::memcpy(image(page), contents, kPageBytes);
  state_[page].store(kPresent, std::memory_order_release);
}

void CommittedPages::mark_changed(PageNumber page) {
  if (is_changed_[page]) return;
  is_changed_[page] = true;
  changed_.push_back(page);
}

std::vector<PageNumber> CommittedPages::take_changed() {
  std::vector<PageNumber> taken;
  taken.swap(changed_);
  for (const PageNumber page : taken) is_changed_[page] = false;
  std::sort(taken.begin(), taken.end());
  return taken;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
