#include "store/detect/loading.hpp"

#include <unistd.h>

#include <algorithm>

#include <pagetrap/core/signal_safe_text.hpp>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

void say(const SignalSafeText& line) noexcept PAGETRAP_SIGNAL_SAFE {
  static_cast<void>(sys::write_all(STDERR_FILENO, line.view().data(), line.view().size()));
}

}  // namespace

void report_loss(const Outcome& outcome, const void* address) noexcept PAGETRAP_SIGNAL_SAFE {
  SignalSafeText line;
  line.text("pagetrap store: the page at ").pointer(address).text(" cannot be read: ");
  line.text(outcome.operation).text(", errno ").decimal(outcome.number);
  line.text(", byte ").decimal(outcome.position).text(" of the file");
  if (outcome.remedy[0] != '\0') line.text("; ").text(outcome.remedy);
  line.text("\n");
  say(line);
}

void report_stray(const void* address) noexcept PAGETRAP_SIGNAL_SAFE {
  SignalSafeText line;
  line.text("pagetrap store: a write to ").pointer(address);
  line.text(" outside a transaction is refused\n");
  say(line);
}

void report_stray_in_snapshot(const void* address) noexcept PAGETRAP_SIGNAL_SAFE {
  SignalSafeText line;
  line.text("pagetrap store: a write to ").pointer(address);
  line.text(" in a snapshot is refused: it is read-only\n");
  say(line);
}

void report_foreign(const void* block) noexcept PAGETRAP_SIGNAL_SAFE {
  SignalSafeText line;
  line.text("pagetrap store: a block at ").pointer(block);
  line.text(" that is not of this store is not taken back\n");
  say(line);
}

Result<std::unique_ptr<Loader>> Loader::create() {
  std::unique_ptr<Loader> loader(new Loader);
  auto memory = SparseArray<std::byte>::create(kBuffers * kAhead * kPageBytes);
  if (!memory) return memory.error();
  loader->memory_ = std::move(*memory);
  return loader;
}

std::size_t Loader::claim() noexcept PAGETRAP_SIGNAL_SAFE {
  for (;;) {
    for (std::size_t i = 0; i < kBuffers; ++i)
      if (!taken_[i].exchange(true, std::memory_order_acquire)) return i;
    sys::yield();
  }
}

// RACE two threads load a page at once, or one loads what another has got and changed since: what
// is there already is left alone by supply().
bool Loader::load(const Territory& territory, Region& region, PageNumber page, bool keep,
                  Access access, Access ahead) noexcept PAGETRAP_SIGNAL_SAFE {
  // What interrupts us may need a buffer too.
  const sys::AllSignalsBlocked blocked(sys::AllSignalsBlocked::But::faults);
  const std::size_t buffer = claim();
  std::byte* const to = memory_.data() + buffer * kAhead * kPageBytes;
  Outcome outcome = territory.committed->load(page, to);
  if (!failed(outcome) && keep) territory.committed->adopt(page, to);
  if (!failed(outcome)) {
    const auto done = region.supply(territory.range(page, 1), to, Supply::copy, access);
    if (!done) outcome = done.error();
  }
  // Read in order: the rest of the sixteen comes along. What cannot be loaded is looked at again
  // when somebody wants it.
  const PageNumber before = last_.exchange(page, std::memory_order_relaxed);
  if (!failed(outcome) && page != 0 && before + 1 == page) {
    const auto limit = static_cast<PageNumber>(
        std::min<std::uint64_t>(territory.committed->file_pages(), territory.pages));
    const PageNumber end =
        std::min<PageNumber>((page + kAhead) / kAhead * kAhead, std::max(limit, page + 1));
    std::size_t count = 0;
    for (PageNumber next = page + 1; next < end; ++next, ++count) {
      std::byte* const at = to + count * kPageBytes;
      if (failed(territory.committed->load(next, at))) break;
      if (keep) territory.committed->adopt(next, at);
    }
    const PageRange rest = territory.range(page + 1, count);
    if (count != 0 && region.range().contains(rest) && region.supply(rest, to, Supply::copy, ahead))
      last_.store(static_cast<PageNumber>(page + count), std::memory_order_relaxed);
  }
  taken_[buffer].store(false, std::memory_order_release);
  if (failed(outcome)) report_loss(outcome, territory.address(page));
  return !failed(outcome);
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
