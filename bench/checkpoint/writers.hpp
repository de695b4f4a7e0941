// The program that is being saved: threads that read and write random places of a heap, and
// write down how they got on.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace pagetrap::bench {

/// Where threads go, and how much they do between two accesses.
struct Pattern {
  bool hot = false;            // nine of ten accesses go to the first tenth of the heap
  std::size_t only_bytes = 0;  // all go to this many bytes at the front; 0: everywhere
  unsigned work = 400;         // dependent multiplications, about half a microsecond
};

/// Two threads, half of whose accesses are writes. Both sides of a pair run the same ones. They are
/// not pinned: with as many of them as CPUs, the scheduler decides who makes room for the save.
class Writers {
 public:
  static constexpr int kThreads = 2;

  /// Starts them, and returns when all of them run.
  Writers(std::byte* heap, std::size_t size_bytes, const Pattern& pattern = {});
  ~Writers();
  Writers(const Writers&) = delete;
  Writers& operator=(const Writers&) = delete;

  /// Ends them. What follows is to be asked afterwards.
  void stop();

  struct Gap {
    double begin_ns = 0;
    double end_ns = 0;
    [[nodiscard]] double length_ns() const noexcept { return end_ns - begin_ns; }
  };
  /// The longest time that a thread spent on kBatch accesses, of those batches that were under way
  /// at some time between the two (as of now_ns()). Less than 20 us: none.
  [[nodiscard]] Gap longest_gap(double begin_ns, double end_ns) const;
  /// Accesses of all threads, by the millisecond.
  [[nodiscard]] double accesses(double begin_ns, double end_ns) const;

  static constexpr int kBatch = 4;  // accesses between two looks at the clock

 private:
  struct alignas(128) Log {
    std::vector<Gap> gaps;
    std::vector<std::uint32_t> per_millisecond;
    std::atomic<std::uint64_t> batches{0};
  };
  void run(Log& log, std::uint64_t seed) noexcept;

  std::byte* heap_;
  std::size_t size_bytes_;
  Pattern pattern_;
  double started_ns_;
  std::atomic<bool> ending_{false};
  std::vector<Log> logs_;
  std::vector<std::thread> threads_;
};

/// Lets the calling thread sleep.
void sleep_ms(long milliseconds);

}  // namespace pagetrap::bench
