#include "store/snapshot/kept_pages.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

Outcome damaged(std::uint64_t page) noexcept PAGETRAP_SIGNAL_SAFE {
  return {"history of a store",
          EBADMSG,
          {},
          "it is damaged: refresh() the snapshot",
          static_cast<std::int64_t>(page * kPageBytes)};
}

Outcome read(int file, void* to, std::size_t length, std::uint64_t offset) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const int error = sys::pread_all(file, to, length, offset);
  if (error == 0) return kDone;
  return {"read of a store's history", error, {}, "", static_cast<std::int64_t>(offset)};
}

}  // namespace

KeptPages::~KeptPages() {
  if (const int file = file_.load(); file >= 0) sys::close_file(file);
}

Outcome KeptPages::create(const std::string& store_path, std::uint64_t seed, std::uint64_t inode,
                          std::size_t pages) {
  path_ = history_path(store_path);
  seed_ = seed;
  inode_ = inode;
  pages_ = pages;
  auto place = SparseArray<std::atomic<std::uint32_t>>::create(pages);
  if (!place) return place.error();
  place_ = std::move(*place);
  auto sums = SparseArray<std::uint64_t>::create(pages);
  if (!sums) return sums.error();
  sums_ = std::move(*sums);
  return kDone;
}

void KeptPages::start_at(std::uint64_t end) noexcept {
  place_.clear();
  first_ = end;
  scanned_.store(end, std::memory_order_release);
}

// RACE it is being made: until its head is there nothing is in it.
Outcome KeptPages::open() noexcept PAGETRAP_SIGNAL_SAFE {
  int file = -1;
  const int error = sys::open_to_read(path_.c_str(), file);
  // Neither is what the writer has made, which says so where it cannot make one.
  if (error == ENOENT || error == ELOOP) return kDone;
  if (error != 0) return {"open of a store's history", error};
  HistoryHead head;
  const sys::Buffer buffer{reinterpret_cast<std::byte*>(&head), sizeof head};
  std::uint64_t got = 0;
  const int failure = sys::read_at(file, {&buffer, 1}, sizeof head, 0, got);
  if (failure == 0 && got == sizeof head && head.magic == kHistoryMagic && head.seed == seed_ &&
      head.inode == inode_) {
    file_.store(file, std::memory_order_release);
    return kDone;
  }
  sys::close_file(file);
  return failure == 0 || failure == EISDIR ? kDone : Outcome{"read of a store's history", failure};
}

// RACE the writer writes both words at once, but nobody promises that they are seen so.
Outcome KeptPages::find_end(std::uint64_t& end) noexcept PAGETRAP_SIGNAL_SAFE {
  end = kFirstHistoryPage;
  if (file_.load(std::memory_order_acquire) < 0) {
    const sys::AllSignalsBlocked blocked(sys::AllSignalsBlocked::But::faults);
    while (scanning_.exchange(true, std::memory_order_acquire)) sys::yield();
    const Outcome outcome = file_.load(std::memory_order_relaxed) < 0 ? open() : kDone;
    scanning_.store(false, std::memory_order_release);
    if (failed(outcome)) return outcome;
  }
  const int file = file_.load(std::memory_order_acquire);
  if (file < 0) return kDone;
  for (sys::Patience patience;;) {
    std::array<std::uint64_t, 2> words{};
    if (const Outcome outcome =
            store::read(file, words.data(), sizeof words, offsetof(HistoryHead, end));
        failed(outcome))
      return outcome;
    end = words[0];
    if (words[0] == ~words[1] && end >= kFirstHistoryPage && end <= kMostHistoryPages) return kDone;
    if (!patience.wait()) return damaged(0);
  }
}

Outcome KeptPages::look() noexcept PAGETRAP_SIGNAL_SAFE {
  std::uint64_t end = 0;
  if (const Outcome outcome = find_end(end); failed(outcome)) return outcome;
  if (end <= scanned_.load(std::memory_order_acquire)) return kDone;
  // Whoever interrupted the one that scans could wait for it for ever.
  const sys::AllSignalsBlocked blocked(sys::AllSignalsBlocked::But::faults);
  while (scanning_.exchange(true, std::memory_order_acquire)) sys::yield();
  const Outcome outcome = scan(end);
  scanning_.store(false, std::memory_order_release);
  return outcome;
}

Outcome KeptPages::scan(std::uint64_t end) noexcept PAGETRAP_SIGNAL_SAFE {
  std::uint64_t at = scanned_.load(std::memory_order_relaxed);
  while (at < end) {
    if (const Outcome outcome = scan_batch(at); failed(outcome)) return outcome;
    scanned_.store(at, std::memory_order_release);
  }
  return kDone;
}

// The entries of the batch at page `at`, which goes on to the next one.
template <class Visit>
Outcome KeptPages::for_each_entry(std::uint64_t& at, Visit&& visit) const noexcept
    PAGETRAP_SIGNAL_SAFE {
  const int file = file_.load(std::memory_order_relaxed);
  const std::uint64_t offset = at * kPageBytes;
  HistoryBatch batch;
  if (const Outcome outcome = store::read(file, &batch, sizeof batch, offset); failed(outcome))
    return outcome;
  if (batch.count == 0 || batch.count > kMostStagedPages || batch.contents > batch.count)
    return damaged(at);
  // Twice: nothing of it may be believed before all of it has been read.
  for (const bool believed : {false, true}) {
    std::uint64_t sum = sum_of(batch, seed_);
    std::uint64_t contents = at + head_pages(batch.count);
    for (std::uint64_t done = 0; done < batch.count;) {
      std::array<HistoryEntry, kEntriesAtOnce> entries;
      const std::size_t some = std::min<std::uint64_t>(kEntriesAtOnce, batch.count - done);
      if (const Outcome outcome = store::read(file, entries.data(), some * sizeof(HistoryEntry),
                                              offset + sizeof batch + done * sizeof(HistoryEntry));
          failed(outcome))
        return outcome;
      sum = add_to_sum(sum, {entries.data(), some});
      for (std::size_t i = 0; i < some && believed; ++i) {
        if (entries[i].page >= pages_) return damaged(at);
        visit(entries[i], contents);
        contents += entries[i].sum != 0 ? 1 : 0;
      }
      done += some;
    }
    if (sum != batch.sum) return damaged(at);
  }
  at += head_pages(batch.count) + batch.contents;
  return kDone;
}

// The first that is found is what the page was when the snapshot was taken.
Outcome KeptPages::scan_batch(std::uint64_t& at) noexcept PAGETRAP_SIGNAL_SAFE {
  return for_each_entry(
      at, [this](const HistoryEntry& entry, std::uint64_t contents) noexcept PAGETRAP_SIGNAL_SAFE {
        std::atomic<std::uint32_t>& place = place_[entry.page];
        if (place.load(std::memory_order_relaxed) != kNowhere) return;
        sums_[entry.page] = entry.sum;
        place.store(entry.sum != 0 ? static_cast<std::uint32_t>(contents) : kZeroes,
                    std::memory_order_release);
      });
}

Outcome KeptPages::read(PageNumber page, std::byte* to) const noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint64_t place = place_[page].load(std::memory_order_acquire);
  if (place == kZeroes) {
    std::memset(to, 0, kPageBytes);
    return kDone;
  }
  if (const Outcome outcome =
          store::read(file_.load(std::memory_order_relaxed), to, kPageBytes, place * kPageBytes);
      failed(outcome))
    return outcome;
  return page_checksum({to, kPageBytes}, page, seed_) == sums_[page] ? kDone : damaged(place);
}

Outcome KeptPages::list(std::vector<PageNumber>& pages) const {
  for (std::uint64_t at = first_; at < scanned_.load(std::memory_order_acquire);) {
    std::array<PageNumber, kMostStagedPages> found;
    std::size_t count = 0;
    const Outcome outcome = for_each_entry(
        at, [&](const HistoryEntry& entry, std::uint64_t) noexcept PAGETRAP_SIGNAL_SAFE {
          found[count++] = static_cast<PageNumber>(entry.page);
        });
    if (failed(outcome)) return outcome;
    pages.insert(pages.end(), found.begin(), found.begin() + static_cast<std::ptrdiff_t>(count));
  }
  return kDone;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
