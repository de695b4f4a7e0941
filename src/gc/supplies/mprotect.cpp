// A memory object mapped twice, the program's mapping protected by mprotect(2): a flip takes time
// for every page, scattered pages take mappings, and it works everywhere.
//
// Writes are found by traps: an armed page is read-only, and its first write is a fault that notes
// the page and opens it.
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cerrno>

#include <pagetrap/vm/region.hpp>

#include "gc/supplier.hpp"
#include "gc/supplies/written_pages.hpp"
#include "gc/zeroed.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace {

/// A bit for each page.
class PageBits {
 public:
  Outcome create(Pages pages) {
    auto memory = zeroed_memory(pages.count() / 8 + 8);
    if (!memory) return memory.error();
    memory_ = std::move(*memory);
    return kDone;
  }
  void set(std::size_t page) noexcept PAGETRAP_SIGNAL_SAFE {
    word(page).fetch_or(bit(page), std::memory_order_relaxed);
  }
  [[nodiscard]] bool has(std::size_t page) noexcept {
    return (word(page).load(std::memory_order_relaxed) & bit(page)) != 0;
  }
  bool take(std::size_t page) noexcept {
    const std::uint64_t mask = bit(page);
    if ((word(page).load(std::memory_order_relaxed) & mask) == 0) return false;
    word(page).fetch_and(~mask, std::memory_order_relaxed);
    return true;
  }
  void clear() noexcept { ::madvise(memory_.data(), memory_.range().size_bytes(), MADV_DONTNEED); }

 private:
  static std::uint64_t bit(std::size_t page) noexcept PAGETRAP_SIGNAL_SAFE {
    return std::uint64_t{1} << page % 64;
  }
  [[nodiscard]] std::atomic_ref<std::uint64_t> word(std::size_t page) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return std::atomic_ref<std::uint64_t>(
        reinterpret_cast<std::uint64_t*>(memory_.range().base)[page / 64]);
  }
  sys::Mapping memory_;
};

class Mprotect final : public PageSupplier {
 public:
  Mprotect(Region region, View view) noexcept
      : region_(std::move(region)), view_(std::move(view)) {}

  Outcome begin() {
    for (PageBits& bits : written_)
      if (const Outcome outcome = bits.create(region_.range().length); failed(outcome))
        return outcome;
    return outcome_of(region_.protect(region_.range(), Access::none));
  }

  [[nodiscard]] PageSupply id() const noexcept override { return PageSupply::mprotect; }
  [[nodiscard]] PageRange range() const noexcept override { return region_.range(); }
  [[nodiscard]] std::ptrdiff_t view() const noexcept override {
    return view_.data() - region_.data();
  }

  Outcome close_all() noexcept override {
    now_.fetch_xor(1, std::memory_order_release);
    return outcome_of(region_.protect(region_.range(), Access::none));
  }
  Outcome open(PageRange pages, bool armed) noexcept PAGETRAP_SIGNAL_SAFE override {
    if (armed) {
      const auto done = region_.protect(pages, Access::read);
      return done ? kDone : done.error();
    }
    note_written(pages);
    return outcome_of(region_.unprotect(pages));
  }
  Result<std::size_t> written(PageRange part, std::span<PageRange> out) noexcept override {
    PageBits& before = written_[1 - now_.load(std::memory_order_acquire)];
    const std::size_t first = index_of(part.base);
    return runs_where(part, out, [&](std::size_t i) { return before.has(first + i); });
  }
  Outcome close(PageRange pages) noexcept override {
    return outcome_of(region_.protect(pages, Access::none));
  }
  Outcome find_written(PageRange part, std::span<PageRange> out,
                       std::size_t& found) noexcept override {
    PageBits& bits = written_[now_.load(std::memory_order_acquire)];
    found = 0;
    const std::size_t first = index_of(part.base);
    for (std::size_t i = 0; i < part.length.count() && found < out.size(); ++i) {
      if (!bits.take(first + i)) continue;
      const PageRange page{part.base + bytes(Pages{i}), Pages{1}};
      if (const Outcome armed = outcome_of(region_.protect(page, Access::read)); failed(armed)) {
        bits.set(first + i);
        return armed;
      }
      out[found++] = page;
    }
    return kDone;
  }
  Outcome settle() noexcept override {
    written_[1 - now_.load(std::memory_order_acquire)].clear();
    return kDone;
  }
  Outcome place(PageRange pages, std::uint64_t first_word) noexcept override {
    return place_through_view(*this, pages, first_word);
  }
  Outcome drop(PageRange pages) noexcept override {
    const auto dropped = region_.discard(pages);
    if (!dropped) return dropped.error();
    return outcome_of(region_.protect(pages, Access::none));
  }
  Outcome on_trap(Handler handler, void* self) noexcept override {
    handler_ = handler;
    self_ = self;
    return outcome_of(region_.on_fault(handler == nullptr ? nullptr : on_fault, this));
  }
  void quiesce() noexcept override { region_.quiesce(); }

 private:
  // Notes are made in traps, and a flip finds no thread in one.
  static Verdict on_fault(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
    auto& here = *static_cast<Mprotect*>(self);
    return here.handler_(here.self_, fault);
  }
  [[nodiscard]] std::size_t index_of(const std::byte* page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<std::size_t>(page - region_.data()) >> page_shift();
  }
  void note_written(PageRange pages) noexcept PAGETRAP_SIGNAL_SAFE {
    PageBits& bits = written_[now_.load(std::memory_order_acquire)];
    const std::size_t first = index_of(pages.base);
    for (std::size_t i = 0; i < pages.length.count(); ++i) bits.set(first + i);
  }

  Region region_;
  View view_;
  Handler handler_ = nullptr;
  void* self_ = nullptr;
  std::array<PageBits, 2> written_;
  std::atomic<unsigned> now_{0};  // which of them writes are noted in
};

}  // namespace

Result<std::unique_ptr<PageSupplier>> make_mprotect(std::byte* address, std::size_t size_bytes) {
  RegionOptions options;
  options.name = "pagetrap:gc-old";
  options.backing = Backing::memfd;
  options.address = address;
  options.alignment = std::size_t{1} << 30;
  options.faults = FaultKind::no_access | FaultKind::write_protected;
  options.delivery = Delivery::faulting_thread;
  options.backend = BackendId::mprotect;
  options.on_fork = ForkPolicy::absent;
  auto region = Region::create(size_bytes, options);
  if (!region) return region.error();
  auto view = region->map_twice(Access::read_write);
  if (!view) return view.error();
  auto supplier = std::make_unique<Mprotect>(std::move(*region), std::move(*view));
  if (const Outcome outcome = supplier->begin(); failed(outcome)) return outcome;
  return std::unique_ptr<PageSupplier>(std::move(supplier));
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
