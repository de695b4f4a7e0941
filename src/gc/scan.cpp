#include "gc/scan.hpp"

#include <cerrno>
#include <cstring>

#include "gc/traced.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace {

using detail::Header;
using detail::Layout;
using detail::Type;
using Word = std::atomic_ref<std::uint64_t>;

constexpr std::uint32_t kClosed = PageInfo::kClosed;

std::uint64_t& word_at(std::byte* place) noexcept PAGETRAP_SIGNAL_SAFE {
  return *reinterpret_cast<std::uint64_t*>(place);
}

// The words of an object, which is nobody's yet.
void copy_words(std::byte* to, const std::byte* from, std::size_t size) noexcept
    PAGETRAP_SIGNAL_SAFE {
  for (std::size_t i = 0; i < size; i += 8) std::memcpy(to + i, from + i, 8);
}

PageIndex new_buffer(HeapState& heap, PageKind kind) noexcept PAGETRAP_SIGNAL_SAFE {
  const PageIndex page = kind == PageKind::leaf ? heap.leaf_pages.take() : heap.old_pages.take();
  if (page == kNoPage) give_up("no addresses left to copy survivors to", ENOMEM);
  if (kind == PageKind::old)
    insist("a page to copy survivors to",
           [&] { return heap.spaces.supplier().prepare(heap.spaces.range(page, 1)); });
  PageInfo& info = heap.spaces.info(page);
  info.fill.store(0, std::memory_order_relaxed);
  info.done.store(0, std::memory_order_relaxed);
  info.scanned.store(0, std::memory_order_relaxed);
  info.opened.store(0, std::memory_order_relaxed);
  info.epoch.store(heap.cycle.load(std::memory_order_relaxed), std::memory_order_relaxed);
  info.kind.store(kind, std::memory_order_release);
  if (kind == PageKind::old) note_closed(heap, page, 1, Closed::new_page);
  return page;
}

// Who closes a page sees that it is scanned: its owner by the queue, a trap at once.
void retire(HeapState& heap, std::atomic<PageIndex>& buffer) noexcept PAGETRAP_SIGNAL_SAFE {
  const PageIndex page = buffer.load(std::memory_order_relaxed);
  if (page == kNoPage) return;
  buffer.store(kNoPage, std::memory_order_release);
  PageInfo& info = heap.spaces.info(page);
  const bool closed = (info.fill.fetch_or(kClosed, std::memory_order_acq_rel) & kClosed) != 0;
  if (!closed && is_old(info.kind.load(std::memory_order_relaxed))) heap.queue.push(page);
}

void mark(HeapState& heap, PageIndex page, std::uintptr_t offset) noexcept PAGETRAP_SIGNAL_SAFE {
  if (!heap.marks.mark(page, (offset - Header::kBytes) % kPageBytes)) return;
  PageInfo& info = heap.spaces.info(page);
  if (info.kind.load(std::memory_order_relaxed) == PageKind::leaf) return;
  if (info.queued.load(std::memory_order_seq_cst)) return;
  if (!info.queued.exchange(true, std::memory_order_seq_cst)) heap.queue.push(page);
}

std::uintptr_t copy(HeapState& heap, Worker& worker, std::uintptr_t offset) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::byte* const from = heap.spaces.view_at(offset) - Header::kBytes;
  const Word head(word_at(from));
  std::uint64_t now = head.load(std::memory_order_acquire);
  const Header header(now);
  if (header.forwarded()) return now;
  const auto size = static_cast<std::uint32_t>(header.size_bytes());
  const bool is_leaf = header.type().layout == Layout::leaf;
  std::atomic<PageIndex>& buffer = is_leaf ? worker.leaf_buffer : worker.buffer;
  for (;;) {
    PageIndex page = buffer.load(std::memory_order_relaxed);
    if (page == kNoPage) {
      page = new_buffer(heap, is_leaf ? PageKind::leaf : PageKind::old);
      buffer.store(page, std::memory_order_release);
    }
    PageInfo& info = heap.spaces.info(page);
    std::uint32_t fill = info.fill.load(std::memory_order_acquire);
    if ((fill & kClosed) != 0 || fill + size > kPageBytes) {
      retire(heap, buffer);
      continue;
    }
    std::byte* const to = heap.spaces.view(page) + fill;
    word_at(to) = now;
    copy_words(to + Header::kBytes, from + Header::kBytes, size - Header::kBytes);
    // RACE the page may have been closed meanwhile: then its scanner has not seen this object.
    if (!info.fill.compare_exchange_strong(fill, fill + size, std::memory_order_acq_rel)) continue;
    const auto moved =
        reinterpret_cast<std::uintptr_t>(heap.spaces.address(page)) + fill + Header::kBytes;
    if (head.compare_exchange_strong(now, moved, std::memory_order_acq_rel)) {
      worker.copied_bytes.store(worker.copied_bytes.load(std::memory_order_relaxed) + size,
                                std::memory_order_relaxed);
      return moved;
    }
    // Another thread was first: take ours back, unless the page was closed over it. Nothing refers
    // to it then.
    std::uint32_t with_ours = fill + size;
    info.fill.compare_exchange_strong(with_ours, fill, std::memory_order_acq_rel);
    return now;
  }
}

/// One scan of part of a page.
class Scan {
 public:
  Scan(HeapState& heap, Worker& worker) noexcept PAGETRAP_SIGNAL_SAFE : heap_(heap),
                                                                        worker_(worker) {}

  /// RACE another thread scans the same slot, or has scanned it and the program stored something
  /// there: only a from-space address is replaced, which the program does not have.
  void slot(std::uint64_t& place) noexcept PAGETRAP_SIGNAL_SAFE {
    const Word word(place);
    std::uint64_t seen = word.load(std::memory_order_relaxed);
    const std::uintptr_t offset = heap_.spaces.offset(seen);
    if (offset >= heap_.spaces.size()) return;
    const PageIndex page = Spaces::page_at(offset);
    if (heap_.is_from_space(page)) {
      const std::uintptr_t moved = forward(heap_, worker_, seen);
      if (moved != seen)
        word.compare_exchange_strong(seen, moved, std::memory_order_release,
                                     std::memory_order_relaxed);
      return;  // where it is now is not young
    }
    if (heap_.is_marked_in_place(page)) return mark(heap_, page, offset);
    young_ |= is_young(heap_.spaces.info(page).kind.load(std::memory_order_relaxed));
  }

  void object(std::byte* start, const Type& type, std::size_t size) noexcept PAGETRAP_SIGNAL_SAFE {
    std::byte* const first = start + Header::kBytes;
    if (type.layout == Layout::fields) {
      for (std::uint32_t i = 0; i < type.field_count; ++i)
        slot(word_at(first + std::size_t{type.fields[i]} * 8));
    } else if (type.layout == Layout::references) {
      for (std::size_t at = Header::kBytes + 8; at < size; at += 8) slot(word_at(start + at));
    }
  }

  /// The objects between two offsets in a page.
  void objects(PageIndex page, std::uint32_t begin, std::uint32_t end) noexcept
      PAGETRAP_SIGNAL_SAFE {
    std::byte* const view = heap_.spaces.view(page);
    for (std::uint32_t at = begin; at < end;) {
      const Header header(Word(word_at(view + at)).load(std::memory_order_relaxed));
      const std::size_t size = header.size_bytes();
      if (size == 0) give_up("a page holds something that is no object", EINVAL);
      object(view + at, header.type(), size);
      at += static_cast<std::uint32_t>(size);
    }
  }

  /// The part of a large object that is in `page`.
  void part(PageIndex first, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE {
    const Type& type = Header(word_at(heap_.spaces.view(first))).type();
    const std::size_t begin = std::size_t{page - first} * kPageBytes;
    const std::size_t end =
        begin + (heap_.spaces.info(page).fill.load(std::memory_order_relaxed) & ~kClosed);
    std::byte* const object = heap_.spaces.view(first);
    if (type.layout == Layout::fields) {
      for (std::uint32_t i = 0; i < type.field_count; ++i) {
        const std::size_t at = Header::kBytes + std::size_t{type.fields[i]} * 8;
        if (at >= begin && at < end) slot(word_at(object + at));
      }
    } else if (type.layout == Layout::references) {
      for (std::size_t at = std::max(begin, Header::kBytes + 8); at < end; at += 8)
        slot(word_at(object + at));
    }
  }

  /// The same two of an old page whose stores marked cards: what is in marked ones.
  void marked_objects(PageIndex page, std::uint32_t end, std::uint64_t marks) noexcept
      PAGETRAP_SIGNAL_SAFE {
    std::byte* const view = heap_.spaces.view(page);
    for (std::uint32_t at = 0; at < end;) {
      const Header header(Word(word_at(view + at)).load(std::memory_order_relaxed));
      const auto size = static_cast<std::uint32_t>(header.size_bytes());
      if (size == 0) give_up("a page holds something that is no object", EINVAL);
      const Type& type = header.type();
      if (type.layout == Layout::fields) {
        for (std::uint32_t i = 0; i < type.field_count; ++i)
          marked_slot(view, at + Header::kBytes + type.fields[i] * 8, marks);
      } else if (type.layout == Layout::references) {
        for (std::uint32_t slot = at + Header::kBytes + 8; slot < at + size; slot += 8)
          marked_slot(view, slot, marks);
      }
      at += size;
    }
  }
  void marked_part(PageIndex first, PageIndex page, std::uint64_t marks) noexcept
      PAGETRAP_SIGNAL_SAFE {
    const Type& type = Header(word_at(heap_.spaces.view(first))).type();
    const std::size_t begin = std::size_t{page - first} * kPageBytes;
    const std::uint32_t end = heap_.spaces.info(page).fill.load(std::memory_order_relaxed);
    std::byte* const view = heap_.spaces.view(page);
    if (type.layout == Layout::fields) {
      for (std::uint32_t i = 0; i < type.field_count; ++i) {
        const std::size_t at = Header::kBytes + std::size_t{type.fields[i]} * 8 - begin;
        if (at < (end & ~kClosed)) marked_slot(view, at, marks);
      }
    } else if (type.layout == Layout::references) {
      for (std::size_t at = begin == 0 ? Header::kBytes + 8 : 0; at < (end & ~kClosed); at += 8)
        marked_slot(view, at, marks);
    }
  }

  /// Whether it came by a reference to an object that stays young.
  [[nodiscard]] bool found_young() const noexcept PAGETRAP_SIGNAL_SAFE { return young_; }

 private:
  void marked_slot(std::byte* view, std::size_t at, std::uint64_t marks) noexcept
      PAGETRAP_SIGNAL_SAFE {
    if ((marks >> at / Cards::kBytes * 8 & 0xff) != 0) slot(word_at(view + at));
  }
  HeapState& heap_;
  Worker& worker_;
  bool young_ = false;
};

void count_page(Worker& worker) noexcept PAGETRAP_SIGNAL_SAFE {
  worker.scanned_pages.store(worker.scanned_pages.load(std::memory_order_relaxed) + 1,
                             std::memory_order_relaxed);
}

}  // namespace

void remember(HeapState& heap, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE {
  if (!heap.spaces.info(page).remembered.exchange(true, std::memory_order_relaxed))
    heap.remembered[heap.remembered_now.load(std::memory_order_relaxed)].push(page + 1);
}

PageIndex first_page_of(const HeapState& heap, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE {
  const PageInfo& info = heap.spaces.info(page);
  return info.kind.load(std::memory_order_acquire) == PageKind::tail ? page - info.extent : page;
}

bool was_closed(const HeapState& heap, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint32_t cycle = heap.cycle.load(std::memory_order_relaxed);
  const PageInfo& info = heap.spaces.info(page);
  const PageInfo& head = heap.spaces.info(first_page_of(heap, page));
  return heap.lifted || info.due.load(std::memory_order_relaxed) == cycle ||
         head.epoch.load(std::memory_order_relaxed) == cycle;
}

bool mark_large(HeapState& heap, PageIndex first) noexcept PAGETRAP_SIGNAL_SAFE {
  PageInfo& info = heap.spaces.info(first);
  const std::uint32_t cycle = heap.cycle.load(std::memory_order_relaxed);
  std::uint32_t epoch = info.epoch.load(std::memory_order_acquire);
  if (epoch == cycle || !heap.is_from_space(first)) return false;
  if (!info.epoch.compare_exchange_strong(epoch, cycle, std::memory_order_acq_rel)) return false;
  const PageKind kind = info.kind.load(std::memory_order_relaxed);
  if (kind == PageKind::young_leaf_large) info.kind.store(PageKind::leaf_large);
  if (kind == PageKind::young_large) info.kind.store(PageKind::large);
  if (kind == PageKind::young_large || kind == PageKind::large) heap.queue.push_object(first);
  return true;
}

std::uintptr_t forward(HeapState& heap, Worker& worker, std::uintptr_t address) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const std::uintptr_t offset = heap.spaces.offset(address);
  if (offset >= heap.spaces.size()) return address;
  const PageIndex page = Spaces::page_at(offset);
  if (!heap.is_from_space(page)) {
    if (heap.is_marked_in_place(page)) mark(heap, page, offset);
    return address;
  }
  if (is_large(heap.spaces.info(page).kind.load(std::memory_order_relaxed))) {
    mark_large(heap, page);
    return address;
  }
  return copy(heap, worker, offset);
}

std::uintptr_t forwarded(const HeapState& heap, std::uintptr_t address) noexcept {
  const std::uintptr_t offset = heap.spaces.offset(address);
  if (offset >= heap.spaces.size()) return address;
  const PageIndex page = Spaces::page_at(offset);
  if (heap.is_marked_in_place(page))
    return heap.marks.is_marked(page, (offset - Header::kBytes) % kPageBytes) ? address : 0;
  if (!heap.is_from_space(page)) return address;
  if (is_large(heap.spaces.info(page).kind.load(std::memory_order_relaxed))) return 0;
  const Header header(
      Word(word_at(heap.spaces.view_at(offset) - Header::kBytes)).load(std::memory_order_acquire));
  return header.forwarded() ? header.word() : 0;
}

void scan_page(HeapState& heap, Worker& worker, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE {
  PageInfo& info = heap.spaces.info(page);
  const std::uint32_t cycle = heap.cycle.load(std::memory_order_relaxed);
  if (info.scanned.load(std::memory_order_acquire) == cycle) return;
  note_scan(heap, page);
  Scan scan(heap, worker);
  const PageIndex first = first_page_of(heap, page);
  const std::uint64_t marks = heap.twin.marks(heap, first, page);
  if (first != page || is_large(info.kind.load(std::memory_order_relaxed))) {
    if (marks == Cards::kAll) {
      scan.part(first, page);
    } else if (marks != 0) {
      scan.marked_part(first, page, marks);
    }
  } else if (marks != Cards::kAll) {
    if (marks != 0) scan.marked_objects(page, info.fill.load() & ~kClosed, marks);
  } else {
    const std::uint32_t fill = info.fill.fetch_or(kClosed, std::memory_order_acq_rel);
    // Its owner's progress is of the cycle that the page was made in.
    const bool is_new = info.epoch.load(std::memory_order_relaxed) == cycle;
    scan.objects(page, is_new ? info.done.load(std::memory_order_acquire) : 0, fill & ~kClosed);
  }
  if (scan.found_young()) remember(heap, page);
  count_page(worker);
  info.scanned.store(cycle, std::memory_order_release);
}

void scan_marked(HeapState& heap, Worker& worker, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE {
  note_first_scan(heap, page);
  Scan scan(heap, worker);
  PageInfo& info = heap.spaces.info(page);
  std::byte* const view = heap.spaces.view(page);
  const auto visit = [&](std::size_t at) {
    const Header header(Word(word_at(view + at)).load(std::memory_order_relaxed));
    scan.object(view + at, header.type(), header.size_bytes());
  };
  // What its own objects mark in the page is scanned at once. RACE others mark too: who marks after
  // the last look finds `queued` false, and queues the page.
  do {
    while (heap.marks.take_unscanned(page, visit)) {
    }
    info.queued.store(false, std::memory_order_seq_cst);
  } while (heap.marks.has_unscanned(page) &&
           !info.queued.exchange(true, std::memory_order_seq_cst));
  if (scan.found_young()) remember(heap, page);
  count_page(worker);
}

// What its owner had scanned of it as a buffer was in another cycle.
void keep_whole(HeapState& heap, PageIndex page) noexcept PAGETRAP_SIGNAL_SAFE {
  PageInfo& info = heap.spaces.info(page);
  info.done.store(0, std::memory_order_relaxed);
  info.epoch.store(heap.cycle.load(std::memory_order_relaxed), std::memory_order_release);
}

void scan_young_page(HeapState& heap, Worker& worker, PageIndex page) noexcept
    PAGETRAP_SIGNAL_SAFE {
  Scan scan(heap, worker);
  scan.objects(page, 0, heap.spaces.info(page).fill.load(std::memory_order_relaxed));
  count_page(worker);
}

bool scan_own_buffer(HeapState& heap, Worker& worker) noexcept PAGETRAP_SIGNAL_SAFE {
  const PageIndex page = worker.buffer.load(std::memory_order_relaxed);
  if (page == kNoPage) return false;
  PageInfo& info = heap.spaces.info(page);
  bool scanned = false;
  for (;;) {
    const std::uint32_t done = info.done.load(std::memory_order_relaxed);
    const std::uint32_t fill = info.fill.load(std::memory_order_acquire);
    // Closed: in the queue, or a trap's affair. What is done of it need not be done again.
    if ((fill & kClosed) != 0 || done == fill) return scanned;
    Scan scan(heap, worker);
    scan.objects(page, done, fill);
    if (scan.found_young()) remember(heap, page);
    info.done.store(fill, std::memory_order_release);
    scanned = true;
  }
}

void retire_buffers(HeapState& heap, Worker& worker) noexcept PAGETRAP_SIGNAL_SAFE {
  retire(heap, worker.buffer);
  retire(heap, worker.leaf_buffer);
}

// RACE a trap may take another one at any time: it is looked at once.
PageIndex open_buffer_of(const HeapState& heap, const Worker& worker) noexcept {
  const PageIndex page = worker.buffer.load(std::memory_order_acquire);
  const bool open = page != kNoPage &&
                    (heap.spaces.info(page).fill.load(std::memory_order_acquire) & kClosed) == 0;
  return open ? page : kNoPage;
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
