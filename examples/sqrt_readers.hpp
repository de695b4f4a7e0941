// The threads that check the table of square roots: each reads a few random entries, then a run of
// consecutive ones, and so on until told to stop.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "sqrt_table.hpp"

namespace example {

struct SqrtCounts {
  std::uint64_t random = 0;      // entries validated at random positions
  std::uint64_t sequential = 0;  // entries validated in runs
  std::uint64_t wrong = 0;
  std::uint64_t first_wrong = 0;  // index, if any is wrong
};

/// Owns the threads. They are made at once and stand still until run(), so that limits may be set
/// in between: a thread needs addresses for its stack.
class SqrtReaders {
 public:
  SqrtReaders(const SqrtTable& table, unsigned threads, std::uint64_t seed)
      : table_(table), seats_(threads) {
    for (unsigned i = 0; i < threads; ++i) {
      threads_.emplace_back([this, i, seed] { read(seats_[i], seed + i); });
    }
  }
  ~SqrtReaders() {
    stopping_.store(true);
    run();
    for (auto& thread : threads_) thread.join();
  }
  SqrtReaders(const SqrtReaders&) = delete;
  SqrtReaders& operator=(const SqrtReaders&) = delete;

  void run() {
    standing_.store(false);
    standing_.notify_all();
  }

  /// Returns when every reader stands between two reads.
  void stand_still() {
    standing_.store(true);
    for (auto& seat : seats_) {
      while (!seat.at_rest.load()) std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  [[nodiscard]] SqrtCounts counts() const {
    SqrtCounts sum;
    for (const auto& seat : seats_) {
      sum.random += seat.random.load(std::memory_order_relaxed);
      sum.sequential += seat.sequential.load(std::memory_order_relaxed);
      const auto wrong = seat.wrong.load(std::memory_order_acquire);
      if (wrong > 0) sum.first_wrong = seat.first_wrong.load(std::memory_order_relaxed);
      sum.wrong += wrong;
    }
    return sum;
  }

 private:
  struct alignas(64) Seat {  // a cache line of its own
    std::atomic<std::uint64_t> random{0};
    std::atomic<std::uint64_t> sequential{0};
    std::atomic<std::uint64_t> wrong{0};
    std::atomic<std::uint64_t> first_wrong{0};
    std::atomic<bool> at_rest{false};
  };

  void read(Seat& seat, std::uint64_t random) {
    // Arbitrary; a run crosses at least one page boundary.
    constexpr std::uint64_t kScattered = 8;
    const std::uint64_t run = pagetrap::page_size() / sizeof(double) + 1;
    while (rest_if_asked(seat)) {
      for (std::uint64_t i = 0; i < kScattered && !standing_.load(); ++i) {
        check(seat, seat.random, next(random) % table_.entries());
      }
      const std::uint64_t start = next(random) % table_.entries();
      for (std::uint64_t i = 0; i < run && !standing_.load(); ++i) {
        check(seat, seat.sequential, (start + i) % table_.entries());
      }
    }
  }

  void check(Seat& seat, std::atomic<std::uint64_t>& counter, std::uint64_t index) const {
    if (table_[index] != std::sqrt(static_cast<double>(index))) {
      if (seat.wrong.load(std::memory_order_relaxed) == 0) seat.first_wrong.store(index);
      seat.wrong.fetch_add(1, std::memory_order_release);
    }
    counter.fetch_add(1, std::memory_order_relaxed);
  }

  /// False when it is time to go.
  bool rest_if_asked(Seat& seat) const {
    while (standing_.load()) {
      seat.at_rest.store(true);
      standing_.wait(true);
      seat.at_rest.store(false);
    }
    return !stopping_.load();
  }

  static std::uint64_t next(std::uint64_t& state) {  // splitmix64
    std::uint64_t z = state += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }

  const SqrtTable& table_;
  std::atomic<bool> standing_{true};
  std::atomic<bool> stopping_{false};
  std::vector<Seat> seats_;
  std::vector<std::thread> threads_;
};

}  // namespace example
