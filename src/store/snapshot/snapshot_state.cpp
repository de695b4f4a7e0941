#include "store/snapshot/snapshot_state.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory_resource>

#include "store/detect/loading.hpp"
#include "store/here.hpp"
#include "store/store_state.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

/// What containers of the store find at the address of their memory_resource.
class ReadOnlyResource final : public std::pmr::memory_resource {
  void* do_allocate(std::size_t, std::size_t) override {
    throw SystemError(Error{"allocation in a snapshot", EPERM, {}, "it is read-only"});
  }
  void do_deallocate(void* block, std::size_t, std::size_t) override {
    report_stray_in_snapshot(block);
  }
  [[nodiscard]] bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }
};
static_assert(sizeof(ReadOnlyResource) <= kPageBytes);

Outcome taken(Error error) {
  if (error.number == EEXIST)
    error.remedy =
        "the store's addresses are in use in this process, maybe by the store itself or another "
        "snapshot of it";
  return error;
}

}  // namespace

Result<std::unique_ptr<SnapshotState>> SnapshotState::open(const std::string& path,
                                                           const SnapshotOptions& options) {
  if (page_size() != kPageBytes)
    return Error{"Snapshot::open", ENOTSUP, {}, "stores need pages of 4096 bytes"};
  watch_forks();
  auto pages = SnapshotPages::open(path);
  if (!pages) return pages.error();
  const Superblock& block = (*pages)->superblock();
  std::unique_ptr<SnapshotState> made(new SnapshotState(std::move(*pages),
                                                        reinterpret_cast<std::byte*>(block.base),
                                                        block.reserve_bytes / kPageBytes));
  made->process_ = process_generation();
  if (const Outcome outcome = made->check_heap(made->is_empty_); failed(outcome)) return outcome;
  if (options.verify_all)
    if (const Outcome outcome = made->verify_all(); failed(outcome)) return outcome;
  if (const Outcome outcome = made->map(); failed(outcome)) return outcome;
  return made;
}

Outcome SnapshotState::check_process() const noexcept {
  if (process_ == process_generation()) return kDone;
  return {"snapshot", EBADF, {}, "a fork()ed child does not have its parent's snapshots"};
}

Outcome SnapshotState::map() {
  const Superblock& block = pages_->superblock();
  auto buffers = SparseArray<std::byte>::create(kBuffers * kAhead * kPageBytes);
  if (!buffers) return buffers.error();
  buffers_ = std::move(*buffers);
  sys::Mapping::Request request;
  request.size_bytes = kPageBytes;
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  request.address = reinterpret_cast<void*>(block.base - kOwnBytes);
  auto own = sys::Mapping::create(request);
  if (!own) return taken(own.error());
  own_ = std::move(*own);
  sys::name_mapping(own_.range(), "pagetrap snapshot: own");
  new (own_.data()) ReadOnlyResource;
  if (::mprotect(own_.data(), kPageBytes, PROT_READ) != 0 ||
      ::madvise(own_.data(), kPageBytes, MADV_DONTFORK) != 0)
    return {"page of a snapshot", errno, own_.range()};
  RegionOptions options;
  options.name = "pagetrap snapshot";
  options.address = reinterpret_cast<void*>(block.base);
  options.faults = FaultKind::missing | FaultKind::write_protected;
  options.delivery = Delivery::faulting_thread;
  options.huge_pages = HugePages::never;
  options.on_fork = ForkPolicy::absent;
  auto region = Region::create(block.reserve_bytes, options);
  if (!region) return taken(region.error());
  region_ = std::move(*region);
  const auto set = region_.on_fault(on_fault, this);
  return set ? kDone : set.error();
}

// By reading, not by touching: an error here is one, and no signal.
Outcome SnapshotState::check_heap(bool& is_empty) {
  const Superblock& block = pages_->superblock();
  std::vector<std::byte> contents(kHotPages * kPageBytes);
  std::size_t loaded = 0;
  Outcome outcome = pages_->load(0, kHotPages, contents.data(), loaded);
  if (!failed(outcome) && loaded < kHotPages)
    outcome = pages_->load(1, 1, contents.data() + kPageBytes, loaded);
  if (failed(outcome)) return outcome;
  HeapHeader header;
  std::memcpy(&header, contents.data(), sizeof header);
  is_empty = header.magic == 0 && pages_->log().commits == 0;
  if (is_empty || (header.magic == kHeapMagic && header.bitmap_page == kHotPages &&
                   header.used_pages <= block.reserve_bytes / kPageBytes))
    return kDone;
  return {"heap of a store",
          EBADMSG,
          {},
          "its header makes no sense",
          static_cast<std::int64_t>(offset_of_page(block.data_offset, 0))};
}

Outcome SnapshotState::verify_all() {
  std::vector<std::byte> contents(kPageBytes);
  for (PageNumber page = 0; page < pages_->stored_pages(); ++page) {
    std::size_t loaded = 0;
    if (const Outcome outcome = pages_->load(page, 1, contents.data(), loaded); failed(outcome))
      return outcome;
  }
  return kDone;
}

Result<bool> SnapshotState::refresh() {
  if (const Outcome outcome = check_process(); failed(outcome)) return outcome;
  auto changes = pages_->refresh();
  if (!changes) return changes.error();
  if (!changes->any) return false;
  if (const Outcome outcome = drop(*changes); failed(outcome)) return outcome;
  if (const Outcome outcome = check_heap(is_empty_); failed(outcome)) return outcome;
  return true;
}

Outcome SnapshotState::drop(const SnapshotPages::Changes& changes) {
  std::vector<PageRange> ranges;
  if (changes.all) {
    ranges.push_back(region_.range());
  } else {
    for (const PageNumber page : changes.pages) {
      std::byte* const base = region_.data() + std::size_t{page} * kPageBytes;
      if (!ranges.empty() && ranges.back().end() == base) {
        ranges.back().length = Pages{ranges.back().length.count() + 1};
      } else {
        ranges.push_back({base, Pages{1}});
      }
    }
  }
  if (ranges.empty()) return kDone;
  const auto dropped = region_.discard(ranges);
  return dropped ? kDone : dropped.error();
}

std::size_t SnapshotState::claim_buffer() noexcept PAGETRAP_SIGNAL_SAFE {
  for (;;) {
    for (std::size_t i = 0; i < kBuffers; ++i)
      if (!taken_[i].exchange(true, std::memory_order_acquire)) return i;
    sys::yield();
  }
}

// Read in order: the rest of the sixteen comes along.
Outcome SnapshotState::load_page(PageNumber page) noexcept PAGETRAP_SIGNAL_SAFE {
  // What interrupts us may need a buffer too.
  const sys::AllSignalsBlocked blocked(sys::AllSignalsBlocked::But::faults);
  const std::size_t buffer = claim_buffer();
  std::byte* const to = buffers_.data() + buffer * kAhead * kPageBytes;
  const PageNumber before = last_.exchange(page, std::memory_order_relaxed);
  const std::size_t wanted = page != 0 && before + 1 == page ? kAhead - page % kAhead : 1;
  std::size_t loaded = 0;
  Outcome outcome = pages_->load(page, wanted, to, loaded);
  if (!failed(outcome)) {
    const PageRange range{region_.data() + std::size_t{page} * kPageBytes, Pages{loaded}};
    const auto done = region_.supply(range, to, Supply::copy, Access::read);
    if (!done) outcome = done.error();
    last_.store(static_cast<PageNumber>(page + loaded - 1), std::memory_order_relaxed);
  }
  taken_[buffer].store(false, std::memory_order_release);
  return outcome;
}

Verdict SnapshotState::on_fault(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  auto& state = *static_cast<SnapshotState*>(self);
  if (fault.write) {
    report_stray_in_snapshot(fault.address);
    return Verdict::not_mine;
  }
  if (fault.kind != FaultKind::missing) return Verdict::not_mine;
  const auto page = static_cast<PageNumber>(
      static_cast<std::size_t>(fault.page.base - state.region_.data()) / kPageBytes);
  const Outcome outcome = state.load_page(page);
  if (!failed(outcome)) return Verdict::resolved;
  report_loss(outcome, fault.page.base);
  return Verdict::not_mine;
}

Outcome SnapshotState::load(const void* address, std::size_t length) {
  if (const Outcome outcome = check_process(); failed(outcome)) return outcome;
  const PageRange pages = pages_covering(address, length);
  if (length == 0) return kDone;
  if (!range().contains(pages)) return {"Snapshot::load", EINVAL, pages, "not in the store"};
  const auto first = static_cast<std::size_t>(pages.base - region_.data()) / kPageBytes;
  for (std::size_t i = 0; i < pages.length.count(); ++i) {
    if (region_.page_state(pages.base + i * kPageBytes) != PageState::missing) continue;
    if (const Outcome outcome = load_page(static_cast<PageNumber>(first + i)); failed(outcome))
      return outcome;
  }
  return kDone;
}

Result<void*> SnapshotState::find_root(std::string_view name, const TypeMark& mark) {
  if (const Outcome outcome = check_process(); failed(outcome)) return outcome;
  if (is_empty_) return static_cast<void*>(nullptr);
  return heap_.find_object(name, mark);
}

std::vector<Root> SnapshotState::roots() {
  if (is_empty_ || failed(check_process())) return {};
  return heap_.list_roots();
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
