// A program with all that a checkpoint must not notice: four threads that wait for each other by
// condition variables, allocate and free, and compute with vectors of four. It relaxes a grid, says
// how far it is, and ends with a hash. Its output does not depend on how its threads are scheduled.
//
// Usage: process_soak_solver [STEPS]
#include <array>
#include <bit>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kThreads = 4;
constexpr std::size_t kSide = 768;  // of the grid; a multiple of 4 * kThreads
constexpr std::size_t kSayEvery = 50;

// memcpy and no pointer: rows begin anywhere. Vectors are built in, so that this is one program on
// every x86-64; a processor with AVX runs the second version of what works on them.
using Four = double __attribute__((vector_size(32)));

/// Everybody waits until everybody is there.
class Gate {
 public:
  void pass() {
    std::unique_lock guard(lock_);
    const std::uint64_t turn = turn_;
    if (++there_ == kThreads) {
      there_ = 0;
      ++turn_;
      guard.unlock();
      open_.notify_all();
      return;
    }
    open_.wait(guard, [&] { return turn_ != turn; });
  }

 private:
  std::mutex lock_;
  std::condition_variable open_;
  std::size_t there_ = 0;
  std::uint64_t turn_ = 0;
};

using Row = std::unique_ptr<double[]>;  // each in a block of its own, and made anew in each step

struct Grid {
  std::vector<Row> rows{kSide};
  std::array<double, kThreads> changes{};
};

#define RELAX(name, how)                                                                       \
  how double name(const double* above, const double* here, const double* below, double* out) { \
    Four sum{};                                                                                \
    for (std::size_t x = 4; x < kSide - 4; x += 4) {                                           \
      Four up, down, left, right, old;                                                         \
      std::memcpy(&up, above + x, sizeof up);                                                  \
      std::memcpy(&down, below + x, sizeof down);                                              \
      std::memcpy(&left, here + x - 1, sizeof left);                                           \
      std::memcpy(&right, here + x + 1, sizeof right);                                         \
      std::memcpy(&old, here + x, sizeof old);                                                 \
      const Four fresh = (up + down + left + right) * 0.25;                                    \
      std::memcpy(out + x, &fresh, sizeof fresh);                                              \
      sum += (fresh - old) * (fresh - old);                                                    \
    }                                                                                          \
    return sum[0] + sum[1] + sum[2] + sum[3];                                                  \
  }
RELAX(relax_plainly, )
RELAX(relax_with_avx, [[gnu::target("avx")]])
#undef RELAX

Row new_row() { return std::make_unique<double[]>(kSide); }

class Solver {
 public:
  explicit Solver(std::size_t steps) : steps_(steps) {
    for (std::size_t y = 0; y < kSide; ++y) {
      now_.rows[y] = new_row();
      for (std::size_t x = 0; x < kSide; ++x)
        now_.rows[y][x] = static_cast<double>((x * 7919 + y * 104729) % 1009);
    }
  }

  std::uint64_t run() {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < kThreads; ++i) threads.emplace_back([this, i] { work(i); });
    for (std::thread& thread : threads) thread.join();
    std::uint64_t hash = 14695981039346656037ULL;
    for (const Row& row : now_.rows)
      for (std::size_t x = 0; x < kSide; ++x)
        hash = (hash ^ std::bit_cast<std::uint64_t>(row[x])) * 1099511628211ULL;
    return hash;
  }

 private:
  void work(std::size_t mine) {
    constexpr std::size_t kRows = kSide / kThreads;
    for (std::size_t step = 1; step <= steps_; ++step) {
      double change = 0;
      for (std::size_t y = mine * kRows; y < (mine + 1) * kRows; ++y) {
        Row fresh = new_row();
        const double* const here = now_.rows[y].get();
        std::memcpy(fresh.get(), here, kSide * sizeof here[0]);
        if (y != 0 && y != kSide - 1)
          change += relax_(now_.rows[y - 1].get(), here, now_.rows[y + 1].get(), fresh.get());
        next_.rows[y] = std::move(fresh);
      }
      next_.changes[mine] = change;
      gate_.pass();  // the next grid is whole
      if (mine == 0) {
        std::swap(now_, next_);
        if (step % kSayEvery == 0) say(step);
      }
      gate_.pass();
      // What was freed here is what another thread allocated.
      for (std::size_t y = mine; y < kSide; y += kThreads) next_.rows[y].reset();
      gate_.pass();
    }
  }

  void say(std::size_t step) const {
    double change = 0;
    for (const double each : now_.changes) change += each;
    std::printf("step %zu change %a\n", step, change);
    std::fflush(stdout);
  }

  std::size_t steps_;
  Grid now_;
  Grid next_;
  Gate gate_;
  double (*relax_)(const double*, const double*, const double*,
                   double*) = __builtin_cpu_supports("avx") != 0 ? relax_with_avx : relax_plainly;
};

}  // namespace

int main(int count, char** words) {
  const std::size_t steps = count > 1 ? std::strtoul(words[1], nullptr, 10) : 2000;
  std::printf("hash %016llx\n", static_cast<unsigned long long>(Solver(steps).run()));
}
