// What the twins make of a page supply. With checked loads nothing is ever closed: pages are opened
// before the program can have come to them, and stay open. With carded stores the cards tell what
// was written, and pages are opened without the mark that would.
#include <sys/mman.h>

#include <atomic>
#include <cerrno>

#include "gc/supplier.hpp"
#include "gc/supplies/written_pages.hpp"
#include "gc/twin.hpp"
#include "gc/zeroed.hpp"
#include "sys/mapping.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace {

class TwinSupplier final : public PageSupplier {
 public:
  TwinSupplier(std::unique_ptr<PageSupplier> inner, Twin& twin) noexcept
      : inner_(std::move(inner)),
        twin_(twin),
        checked_(has(twin.barriers, Barriers::checked_loads)),
        carded_(has(twin.barriers, Barriers::carded_stores)),
        plain_(inner_->id() == PageSupply::none) {}

  Outcome begin() {
    if (!checked_ || plain_) return kDone;
    auto memory = zeroed_memory(range().length.count());
    if (!memory) return memory.error();
    opened_ = std::move(*memory);
    return kDone;
  }

  [[nodiscard]] PageSupply id() const noexcept override { return inner_->id(); }
  [[nodiscard]] bool closes() const noexcept override { return checked_ || inner_->closes(); }
  [[nodiscard]] bool finds_later() const noexcept override { return checked_; }
  [[nodiscard]] PageRange range() const noexcept override { return inner_->range(); }
  [[nodiscard]] std::ptrdiff_t view() const noexcept override { return inner_->view(); }
  [[nodiscard]] bool view_is_memory() const noexcept override { return inner_->view_is_memory(); }
  [[nodiscard]] bool forks() const noexcept override { return inner_->forks(); }
  void forked() noexcept override { inner_->forked(); }

  Outcome close_all() noexcept override { return checked_ ? kDone : inner_->close_all(); }
  Outcome close(PageRange pages) noexcept override {
    return checked_ ? kDone : inner_->close(pages);
  }
  Outcome open(PageRange pages, bool armed) noexcept PAGETRAP_SIGNAL_SAFE override {
    if (plain_) return kDone;
    if (!checked_) return inner_->open(pages, armed && !carded_);
    const std::size_t first = index_of(pages.base);
    const std::size_t end = first + pages.length.count();
    for (std::size_t page = first; page < end;) {
      if (is_open(page)) {
        ++page;
        continue;
      }
      std::size_t last = page;
      while (last < end && !is_open(last)) ++last;
      if (const Outcome outcome = open_run(page, last - page, armed); failed(outcome))
        return outcome;
      page = last;
    }
    return kDone;
  }
  // With some that come after it: one call for many costs a third.
  Outcome prepare(PageRange page) noexcept PAGETRAP_SIGNAL_SAFE override {
    if (!checked_) return inner_->prepare(page);
    if (plain_) return kDone;
    const std::size_t first = index_of(page.base);
    if (is_open(first)) return kDone;
    const std::size_t most = range().length.count() - first;
    std::size_t count = 1;
    while (count < std::min(most, kTogether) && !is_open(first + count)) ++count;
    const PageRange run{page.base + view(), Pages{count}};
    if (const int error = sys::advise(run, MADV_POPULATE_WRITE))
      return Error{"MADV_POPULATE_WRITE of pages to copy to", error, run};
    return open_run(first, count, true);
  }

  Outcome place(PageRange pages, std::uint64_t first_word) noexcept override {
    const Outcome placed = inner_->place(pages, first_word);
    if (failed(placed) || !checked_ || plain_) return placed;
    const std::size_t first = index_of(pages.base);
    for (std::size_t i = 0; i < pages.length.count(); ++i) set_open(first + i, true);
    return kDone;
  }
  Result<std::size_t> written(PageRange part, std::span<PageRange> out) noexcept override {
    if (carded_)
      return marked(part, out, [this](PageIndex page) { return twin_.cards.before(page); });
    std::size_t found = 0;
    const Outcome outcome = inner_->find_written(part, out, found);
    if (failed(outcome)) return outcome;
    if (found == out.size()) return Error{"gc", ENOBUFS, part, "more runs than room"};
    return found;
  }
  Outcome find_written(PageRange part, std::span<PageRange> out,
                       std::size_t& found) noexcept override {
    if (!carded_) return inner_->find_written(part, out, found);
    const auto runs = marked(part, out, [this](PageIndex page) { return twin_.cards.now(page); });
    found = runs ? *runs : out.size();
    return kDone;
  }
  Outcome settle() noexcept override { return inner_->settle(); }
  Outcome drop(PageRange pages) noexcept override {
    if (checked_ && !plain_) {
      const std::size_t first = index_of(pages.base);
      for (std::size_t i = 0; i < pages.length.count(); ++i) set_open(first + i, false);
    }
    return inner_->drop(pages);
  }

  // With checked loads there is none, but for a page that could not be prepared.
  Outcome on_trap(Handler handler, void* self) noexcept override {
    return inner_->on_trap(handler, self);
  }
  void quiesce() noexcept override {
    inner_->quiesce();
    while (twin_.loads.load(std::memory_order_seq_cst) != 0) sys::yield();
  }

 private:
  static constexpr std::size_t kTogether = 64;

  template <class Marks>
  Result<std::size_t> marked(PageRange part, std::span<PageRange> out, Marks marks) noexcept {
    const std::size_t first = index_of(part.base);
    return runs_where(part, out,
                      [&](std::size_t i) { return marks(static_cast<PageIndex>(first + i)) != 0; });
  }

  // The range begins where the heap does.
  [[nodiscard]] std::size_t index_of(const std::byte* page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<std::size_t>(page - range().base) / kPageBytes;
  }
  [[nodiscard]] std::atomic_ref<std::byte> flag(std::size_t page) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return std::atomic_ref(opened_.range().base[page]);
  }
  [[nodiscard]] bool is_open(std::size_t page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return flag(page).load(std::memory_order_relaxed) != std::byte{0};
  }
  void set_open(std::size_t page, bool open) noexcept PAGETRAP_SIGNAL_SAFE {
    flag(page).store(std::byte{open}, std::memory_order_relaxed);
  }
  // RACE two threads open one page: the kernel says that it is there, and the ground floor steps
  // over it.
  Outcome open_run(std::size_t first, std::size_t count, bool armed) noexcept PAGETRAP_SIGNAL_SAFE {
    const PageRange run{range().base + first * kPageBytes, Pages{count}};
    if (const Outcome outcome = inner_->open(run, armed); failed(outcome)) return outcome;
    for (std::size_t i = 0; i < count; ++i) set_open(first + i, true);
    return kDone;
  }

  std::unique_ptr<PageSupplier> inner_;
  Twin& twin_;
  const bool checked_;
  const bool carded_;
  const bool plain_;     // all of it is always open
  sys::Mapping opened_;  // a byte for each page: whether it is open
};

}  // namespace

Result<std::unique_ptr<PageSupplier>> make_twin(std::unique_ptr<PageSupplier> inner, Twin& twin) {
  auto supplier = std::make_unique<TwinSupplier>(std::move(inner), twin);
  if (const Outcome outcome = supplier->begin(); failed(outcome)) return outcome;
  return std::unique_ptr<PageSupplier>(std::move(supplier));
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
