// Costs: what retained copies save, and what the memory they take would save.
//
// A copy is worth its room where
//
//   P(unchanged) x time to compress one without it     time of a fault     bytes of a copy
//   ----------------------------------------------  >  ---------------  x  ---------------
//                pages in memory                         pages absent       bytes of a page
//
// The left side: all pages in memory leave once while as many faults happen, so that one copy saves
// so much for each fault. The right side: one page more in memory is one absent page less, of which
// each is touched by one fault in so many. The time without a copy is what the program's threads
// have spent: nothing where the pager's thread had prepared the page.
//
// SOURCE Wilson, Kaplan, Smaragdakis 1999: compare costs and benefits that were measured. Theirs
// come from a histogram of recency; here pages are taken to be touched alike, which overrates a
// page in memory where few are hot, by less than the sixteenths of a step.
#pragma once

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
  void kept_copy(bool unchanged) noexcept PAGETRAP_SIGNAL_SAFE {
    add(kept_, unchanged_, unchanged ? 1 : 0);
  }
  /// It came back without a retained copy. 0: prepared in time.
  void without_copy(std::uint64_t time) noexcept PAGETRAP_SIGNAL_SAFE {
    add(without_, store_time_, time);
  }

  /// After every 1024 pages; arbitrary.
  Advice advise(std::uint64_t in_memory, std::uint64_t absent, std::uint64_t copy_bytes,
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
    const double fault = kFault + (loads > 0 ? load_time / loads : 0);
    const double saved = share_.load(std::memory_order_relaxed) *
                         without_ns_.load(std::memory_order_relaxed) * static_cast<double>(absent) *
                         static_cast<double>(page_bytes);
    const double lost = fault * static_cast<double>(in_memory) * static_cast<double>(copy_bytes);
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

  static constexpr double kFault = 6000;  // beside the load: signal, UFFDIO_COPY, unmapping
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
