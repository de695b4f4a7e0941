// Costs: what retained copies save, and what the memory they take would save.
//
// A copy is worth its room where
//
//   copies found at departure   P(unchanged) x time to       P(soon) x time of a fault   bytes of a
//   copy
//   ------------------------- x compress a page without  >  ------------------------- x
//   ---------------
//       copies  x  faults       a copy                           pages in memory        bytes of a
//       page
//
// The left side: what one copy saves for each fault. Hot pages do not leave, and their copies save
// nothing. The time is what the program's threads have spent: nothing where the pager's thread had
// prepared the page. The right side: what its room saves as a page in memory. Of the pages that
// come back, those that come `soon` would still be there with twice the memory; so one page more
// saves that share of the faults, divided by the pages there are. Such a fault makes a page leave
// as well. A reader that goes round more than fits comes back to no page soon: then copies are all.
//
// SOURCE Wilson, Kaplan, Smaragdakis 1999: compare costs and benefits that were measured. Theirs
// come from a histogram of recency; this is one of two bars.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace compress {

class Costs {
 public:
  enum class Advice : std::uint8_t { wait, more, less };

  // Each of these: one page. Times in nanoseconds.
  void loaded(std::uint64_t time) noexcept PAGETRAP_SIGNAL_SAFE { add(loads_, load_time_, time); }
  /// A fault, or a reader ahead, brought so many that had been there before.
  void returned(std::uint64_t pages, std::uint64_t soon) noexcept PAGETRAP_SIGNAL_SAFE {
    add(runs_, returned_, pages);
    soon_.fetch_add(soon, std::memory_order_relaxed);
  }
  void kept_copy(bool unchanged) noexcept PAGETRAP_SIGNAL_SAFE {
    add(kept_, unchanged_, unchanged ? 1 : 0);
  }
  /// It came back without a retained copy. 0: prepared in time.
  void without_copy(std::uint64_t time) noexcept PAGETRAP_SIGNAL_SAFE {
    add(without_, store_time_, time);
  }

  /// After every 1024 pages; arbitrary.
  Advice advise(std::uint64_t in_memory, std::uint64_t retained, std::uint64_t copy_bytes,
                std::uint64_t page_bytes) noexcept PAGETRAP_SIGNAL_SAFE {
    if (kept_.load(std::memory_order_relaxed) + without_.load(std::memory_order_relaxed) < 1024)
      return Advice::wait;
    // RACE threads that come here at once: one finds the counts, the others little.
    const double kept = take(kept_);
    const double unchanged = take(unchanged_);
    const double without = take(without_);
    const double store_time = take(store_time_);
    const double loads = take(loads_);
    const double load_time = take(load_time_);
    if (kept + without < 512) return Advice::wait;
    // A few samples are enough, and where there are none the last ones hold.
    if (without >= 8) without_ns_.store(store_time / without, std::memory_order_relaxed);
    if (kept >= 8) share_.store(unchanged / kept, std::memory_order_relaxed);
    const double share = share_.load(std::memory_order_relaxed);
    const double without_ns = without_ns_.load(std::memory_order_relaxed);
    const double departures = kept + without;  // as many faults, too
    // Where hardly any are kept it is not known which pages would have them.
    const double found = kept >= 8 && retained != 0
                             ? kept / (static_cast<double>(retained) * departures)
                             : 1 / static_cast<double>(in_memory);
    const double runs = take(runs_);
    const double returned = take(returned_);
    const double soon = take(soon_);
    const double run = runs > 0 ? std::max(1.0, returned / runs) : 1;
    const double fault = kFault / run + kPage + (loads > 0 ? load_time / loads : 0) +
                         without_ns * without / departures;
    const double saved = found * share * without_ns;
    const double lost = fault * (returned > 0 ? soon / returned : 0) /
                        static_cast<double>(in_memory) * static_cast<double>(copy_bytes) /
                        static_cast<double>(page_bytes);
    return saved > lost ? Advice::more : Advice::less;
  }

 private:
  using Counter = std::atomic<std::uint64_t>;
  static void add(Counter& count, Counter& sum, std::uint64_t value) noexcept PAGETRAP_SIGNAL_SAFE {
    count.fetch_add(1, std::memory_order_relaxed);
    sum.fetch_add(value, std::memory_order_relaxed);
  }
  static double take(Counter& counter) noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<double>(counter.exchange(0, std::memory_order_relaxed));
  }

  // Beside the load: of a fault, and of a page, since one fault may bring many.
  static constexpr double kFault = 5000;  // signal, bookkeeping
  static constexpr double kPage = 2500;   // UFFDIO_COPY, unmapping
  Counter runs_{0};
  Counter returned_{0};
  Counter soon_{0};
  Counter loads_{0};
  Counter load_time_{0};
  Counter kept_{0};
  Counter unchanged_{0};
  Counter without_{0};
  Counter store_time_{0};
  std::atomic<double> without_ns_{10'000};  // before anything is known: LZ4's
  std::atomic<double> share_{0.5};
};

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
