#include "checkpoint/writers.hpp"

#include <algorithm>
#include <ctime>

#include "harness/clock.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kSlot = 64;          // bytes: a line of the cache
constexpr std::size_t kLongest = 120'000;  // milliseconds that are written down
constexpr std::size_t kMostGaps = 1 << 18;
constexpr double kGapNs = 20e3;

std::uint64_t next(std::uint64_t& state) noexcept {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

}  // namespace

void sleep_ms(long milliseconds) {
  timespec left{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  while (nanosleep(&left, &left) != 0) {
  }
}

Writers::Writers(std::byte* heap, std::size_t size_bytes, const Pattern& pattern)
    : heap_(heap),
      size_bytes_(size_bytes),
      pattern_(pattern),
      started_ns_(now_ns()),
      logs_(kThreads) {
  static std::uint64_t seed = 0x9E37'79B9'7F4A'7C15;
  for (Log& log : logs_) {
    log.gaps.reserve(kMostGaps);
    log.per_millisecond.assign(kLongest, 0);
  }
  for (Log& log : logs_) {
    next(seed);
    threads_.emplace_back([this, &log, s = seed] { run(log, s); });
  }
  for (const Log& log : logs_)
    while (log.batches.load(std::memory_order_relaxed) < 16) sleep_ms(1);
}

Writers::~Writers() { stop(); }

void Writers::stop() {
  ending_.store(true);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Writers::run(Log& log, std::uint64_t seed) noexcept {
  const std::size_t all = (pattern_.only_bytes != 0 ? pattern_.only_bytes : size_bytes_) / kSlot;
  const std::size_t hot = all / 10;
  std::uint64_t mixed = seed;
  double last = now_ns();
  while (!ending_.load(std::memory_order_relaxed)) {
    for (int i = 0; i < kBatch; ++i) {
      const std::uint64_t random = next(seed);
      const bool to_hot = pattern_.hot && (random >> 40) % 10 != 0;
      const std::size_t slot = (random & 0xff'ffff'ffff) % (to_hot ? hot : all);
      auto* const word = reinterpret_cast<volatile std::uint64_t*>(heap_ + slot * kSlot + 8);
      if ((random >> 63) != 0) {
        *word = random | 1;
      } else {
        mixed += *word;
      }
      for (unsigned k = 0; k < pattern_.work; ++k) {
        mixed = mixed * 6364136223846793005U + 1442695040888963407U;
        asm volatile("" : "+r"(mixed));
      }
    }
    const double now = now_ns();
    if (now - last >= kGapNs && log.gaps.size() < kMostGaps) log.gaps.push_back({last, now});
    last = now;
    const auto millisecond = static_cast<std::size_t>((now - started_ns_) / 1e6);
    if (millisecond < kLongest) log.per_millisecond[millisecond] += kBatch;
    log.batches.store(log.batches.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
}

Writers::Gap Writers::longest_gap(double begin_ns, double end_ns) const {
  Gap longest;
  for (const Log& log : logs_)
    for (const Gap& gap : log.gaps)
      if (gap.end_ns > begin_ns && gap.begin_ns < end_ns && gap.length_ns() > longest.length_ns())
        longest = gap;
  return longest;
}

double Writers::accesses(double begin_ns, double end_ns) const {
  const auto index = [&](double at) {
    return std::min(kLongest, static_cast<std::size_t>(std::max(0.0, (at - started_ns_) / 1e6)));
  };
  double sum = 0;
  for (const Log& log : logs_)
    for (std::size_t i = index(begin_ns); i < index(end_ns); ++i) sum += log.per_millisecond[i];
  return sum;
}

}  // namespace pagetrap::bench
