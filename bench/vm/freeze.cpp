// vm.freeze_*: stop every write to a heap at one instant, with two threads writing to it.
//
// The heap, the threads and their writes are the same on both sides; only the way to make the cut
// differs. Timed is the cut alone: until no thread can write any more, or fork() has returned.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "harness/cpus.hpp"
#include "harness/machine.hpp"
#include "harness/pairs.hpp"
#include "rivals/handler_swap.hpp"
#include "vm/questions.hpp"
#include "vm/trap_sides.hpp"

namespace pagetrap::bench {

namespace {

constexpr int kThreads = 2;

void sleep_for(long microseconds) {
  const timespec pause{0, microseconds * 1000};
  nanosleep(&pause, nullptr);
}

/// Threads that write to random pages of the heap, and count their rounds in the heap itself.
class RunningThreads {
 public:
  RunningThreads(std::byte* heap, std::size_t size_bytes) : heap_(heap), size_bytes_(size_bytes) {
    for (int index = 0; index < kThreads; ++index) {
      threads_.emplace_back([this, index] { run(index); });
    }
  }
  ~RunningThreads() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }
  RunningThreads(const RunningThreads&) = delete;
  RunningThreads& operator=(const RunningThreads&) = delete;

  [[nodiscard]] std::uint64_t rounds() const noexcept {
    std::uint64_t sum = 0;
    for (int index = 0; index < kThreads; ++index) sum += *counter(index);
    return sum;
  }

  void wait_until_all_run() const {
    std::array<std::uint64_t, kThreads> before{};
    for (int i = 0; i < kThreads; ++i) before[static_cast<std::size_t>(i)] = *counter(i);
    for (int i = 0; i < kThreads; ++i) {
      while (*counter(i) == before[static_cast<std::size_t>(i)]) sleep_for(100);
    }
  }

 private:
  [[nodiscard]] volatile std::uint64_t* counter(int index) const noexcept {
    return reinterpret_cast<volatile std::uint64_t*>(heap_ +
                                                     static_cast<std::size_t>(index) * page_size());
  }

  void run(int index) {
    pin_to_cpu(index);
    std::mt19937_64 random(static_cast<unsigned>(index));
    volatile std::uint64_t* const rounds = counter(index);
    const std::size_t pages = (size_bytes_ >> page_shift()) - kThreads;
    while (!stop_) {
      write_to(heap_ + (kThreads + random() % pages) * page_size());
      *rounds = *rounds + 1;
    }
  }

  std::byte* heap_;
  std::size_t size_bytes_;
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

double time_freeze(Region& region, const RunningThreads& threads, Report& report) {
  threads.wait_until_all_run();
  const double begin = now_ns();
  const auto frozen = region.freeze(Access::read);
  const double elapsed = now_ns() - begin;
  if (!frozen) report.fail(describe(frozen.error()));
  const std::uint64_t at_cut = threads.rounds();
  sleep_for(200);
  report.check(threads.rounds() == at_cut, "a thread wrote to a frozen heap");
  region.thaw().value();
  return elapsed;
}

/// The child lives until the parent has its time: its death would be paid by somebody's CPU.
///
/// WHY the bare system call: fork() would run our own handlers for it (they re-arm the region in
/// the child), which the rival does not have to pay for.
double time_fork(const RunningThreads& threads, Report& report) {
  threads.wait_until_all_run();
  std::array<int, 2> ends{};
  report.check(pipe(ends.data()) == 0, "pipe");
  const double begin = now_ns();
  const long child = syscall(SYS_fork);
  if (child == 0) {
    char nothing = 0;
    close(ends[1]);
    const ssize_t closed = read(ends[0], &nothing, 1);
    _exit(closed == 0 ? 0 : 1);
  }
  const double elapsed = now_ns() - begin;
  report.check(child > 0, "fork failed");
  close(ends[1]);
  close(ends[0]);
  waitpid(static_cast<pid_t>(child), nullptr, 0);
  return elapsed;
}

PageRange g_heap;
std::atomic<bool> g_closed{false};

/// The rival's meaning of frozen: who writes waits until the heap is open.
void wait_until_open(int, siginfo_t* info, void*) {
  if (!g_heap.contains(info->si_addr)) {
    signal(SIGSEGV, SIG_DFL);
    return;
  }
  while (g_closed.load(std::memory_order_acquire)) sched_yield();
}

double time_mprotect(Region& region, const RunningThreads& threads, Report& report) {
  const rivals::HandlerSwap swap(SIGSEGV, wait_until_open);
  threads.wait_until_all_run();
  g_closed = true;
  const double begin = now_ns();
  const int refused = mprotect(region.data(), region.size_bytes(), PROT_READ);
  const double elapsed = now_ns() - begin;
  const std::uint64_t at_cut = threads.rounds();
  sleep_for(200);
  report.check(refused == 0 && threads.rounds() == at_cut, "a thread wrote to a closed heap");
  mprotect(region.data(), region.size_bytes(), PROT_READ | PROT_WRITE);
  g_closed = false;
  threads.wait_until_all_run();  // nobody is in this handler when ours comes back
  return elapsed;
}

enum class Rival { fork, mprotect };

void measure_freeze(std::size_t size_bytes, Rival rival, const Effort& effort, Report& report) {
  if (!protection_keys_available()) {
    report.skip(kNoProtectionKeys);
  }
  if (memory_available() < static_cast<double>(size_bytes + 1_GiB)) {
    report.skip("not enough available memory");
  }
  RegionOptions options = write_trap_options(Delivery::any, BackendId::pkey);
  options.freezable = true;
  auto region = Region::create(size_bytes, options);
  if (!region) report.skip(describe(region.error()));
  populate(region->data(), size_bytes);
  g_heap = region->range();
  report.parameter("bytes", static_cast<double>(size_bytes));
  report.parameter("running_threads", kThreads);
  report.parameter("cpus", cpu_count());
  const RunningThreads threads(region->data(), size_bytes);
  interleave(
      with_fewer_pairs(effort, 7), report, [&] { return time_freeze(*region, threads, report); },
      [&] {
        return rival == Rival::fork ? time_fork(threads, report)
                                    : time_mprotect(*region, threads, report);
      });
}

template <std::size_t SizeBytes, Rival Against>
void measure(const Effort& effort, Report& report) {
  measure_freeze(SizeBytes, Against, effort, report);
}

Question question(const char* id, const char* size, const char* rival, double target,
                  void (*measure)(const Effort&, Report&)) {
  return {.id = id,
          .asks = std::string("stop all writes to a heap of ") + size + " with 2 running threads",
          .ours = std::string("freeze ") + size + " by protection key",
          .rival = rival,
          .unit = "ns",
          .target = target,
          .measure = measure,
          .scheduling = Scheduling::fair_group,
          .bound = "a signal to each thread, 4 us, and a time slice where threads share a CPU"};
}

}  // namespace

void add_freeze(Questions& questions) {
  questions.push_back(
      question("vm.freeze_1g", "1 GiB", "fork()", 0.01, measure<1_GiB, Rival::fork>));
  questions.push_back(
      question("vm.freeze_8g", "8 GiB", "fork()", 0.002, measure<8_GiB, Rival::fork>));
  questions.push_back(question("vm.freeze_1g.mprotect", "1 GiB", "mprotect of the whole heap", 0.01,
                               measure<1_GiB, Rival::mprotect>));
}

}  // namespace pagetrap::bench
