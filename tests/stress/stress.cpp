// Everything at once, for as long as one likes: threads that fault, protect, unprotect, discard and
// supply; that are born and exit; regions that come and go; forks; timer signals; dirty tracking
// against an oracle. Rounds of a few seconds, each in a process of its own with the next backend
// and form of tracking, so that a hang or a crash is a finding with a seed.
//
// Usage: stress [--seconds N] [--seed S] [--round R]     --round: only that one, to see it again
// Exit status: 0 nothing found, 1 an inconsistency, 2 a bad argument.
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <pagetrap/vm/vm.hpp>

// There in programs that AddressSanitizer instruments.
extern "C" [[gnu::weak]] void __asan_init();

namespace pagetrap {
namespace {

constexpr std::size_t kWorkers = 3;
constexpr std::size_t kPagesEach = 32;
constexpr std::size_t kPages = kWorkers * kPagesEach;
constexpr std::size_t kDirtyPages = 256;
constexpr unsigned kRoundSeconds = 3;
constexpr unsigned kGrace = 20;  // seconds after which a round that should have ended hangs
constexpr std::uint64_t kStamp = 0x9e3779b97f4a7c15;  // times the page's number: its first word

// Shared with the processes of the rounds.
struct Tally {
  std::atomic<std::uint64_t> faults, writes, protects, discards, forks, regions, collects, dirty,
      threads, signals;
};
Tally* g_tally = nullptr;

[[noreturn]] void fail(const char* what, std::size_t page = ~std::size_t{0}) {
  ::dprintf(STDERR_FILENO, "stress: process %d: %s (page %zd, errno %d)\n", ::getpid(), what,
            static_cast<ssize_t>(page), errno);
  ::_exit(1);
}
template <class T>
T must(Result<T> result, const char* what) {
  if (!result) {
    ::dprintf(STDERR_FILENO, "stress: %s: %s\n", what, describe(result.error()).c_str());
    ::_exit(1);
  }
  return std::move(result).value();
}

struct Plan {
  BackendId backend = BackendId::mprotect;
  Backing backing = Backing::anonymous;
  unsigned handler_threads = 1;
  DirtyForm dirty = DirtyForm::traps;
  std::uint64_t seed = 0;
  unsigned seconds = kRoundSeconds;
};

// --- pages whose contents are paged in and out, each written by one worker

class Paged {
 public:
  explicit Paged(const Plan& plan) : store_(kPages * words()) {
    RegionOptions options;
    options.backend = plan.backend;
    options.backing = plan.backing;
    options.handler_threads = plan.handler_threads;
    options.faults = FaultKind::missing | FaultKind::write_protected;
    for (std::size_t page = 0; page < kPages; ++page) store_[page * words()] = kStamp * (page + 1);
    oracle_ = store_;
    region_ = must(Region::create(kPages * page_size(), options), "create");
    must(region_.on_fault(serve, this), "on_fault");
  }

  // One step of the worker that owns the pages from `first`.
  void step(std::size_t first, std::mt19937_64& random) {
    const std::size_t page = first + random() % kPagesEach;
    const PageRange range{region_.data() + page * page_size(), Pages{1}};
    switch (random() % 16) {
      case 0:
      case 1:
      case 2:
        // A missing page would become zeroes; only its owner empties a page.
        if (region_.page_state(range.base) != PageState::read_write) break;
        must(region_.protect(range, Access::read), "protect");
        g_tally->protects.fetch_add(1);
        break;
      case 3:
        if (region_.page_state(range.base) == PageState::read)
          must(region_.unprotect(range), "unprotect");
        break;
      case 4:
      case 5:
        page_out(page, range);
        break;
      case 6:
        look_at_others(random);
        break;
      default:
        write_and_check(page, 1 + random() % (words() - 1), random());
    }
  }

  // What a fork()ed child can know: the first words, and that its own writes work.
  void check_stamps() {
    for (std::size_t page = 0; page < kPages; ++page) {
      if (word(page, 0).load() != kStamp * (page + 1)) fail("a page without its stamp", page);
      word(page, 0).store(kStamp * (page + 1));
    }
  }

  void check_all() {
    for (std::size_t page = 0; page < kPages; ++page)
      for (std::size_t i = 0; i < words(); ++i)
        if (word(page, i).load() != oracle_[page * words() + i]) fail("contents at the end", page);
  }

 private:
  static std::size_t words() { return page_size() / sizeof(std::uint64_t); }
  std::atomic_ref<std::uint64_t> word(std::size_t page, std::size_t index) const {
    return std::atomic_ref<std::uint64_t>(
        reinterpret_cast<std::uint64_t*>(region_.data())[page * words() + index]);
  }

  static Verdict serve(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
    auto& paged = *static_cast<Paged*>(self);
    g_tally->faults.fetch_add(1, std::memory_order_relaxed);
    // Only a page's owner writes to it, and only its owner empties it: while the owner waits here
    // the page stays. Whatever a reader's fault is called, it is supplied, which changes nothing if
    // another one was faster; unprotect() would fill a page with zeroes that was emptied after
    // that.
    if (fault.kind == FaultKind::write_protected)
      return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
    const auto page =
        static_cast<std::size_t>(fault.page.base - fault.region->data()) / page_size();
    const Access access = fault.write ? Access::read_write : Access::read;
    return fault.region->supply(fault.page, &paged.store_[page * words()], Supply::copy, access)
               ? Verdict::resolved
               : Verdict::not_mine;
  }

  void page_out(std::size_t page, PageRange range) {
    for (std::size_t i = 1; i < words(); ++i)
      store_[page * words() + i] = oracle_[page * words() + i];
    must(region_.discard(range), "discard");
    g_tally->discards.fetch_add(1);
  }

  void write_and_check(std::size_t page, std::size_t index, std::uint64_t value) {
    const std::uint64_t expected = oracle_[page * words() + index];
    if (word(page, index).load() != expected) fail("not what was written last", page);
    word(page, index).store(value);
    oracle_[page * words() + index] = value;
    if (word(page, index).load() != value) fail("not what was just written", page);
    g_tally->writes.fetch_add(1, std::memory_order_relaxed);
  }

  void look_at_others(std::mt19937_64& random) const {
    const std::size_t page = random() % kPages;
    if (word(page, 0).load() != kStamp * (page + 1)) fail("another's page is not whole", page);
  }

  std::vector<std::uint64_t> store_;   // "the disk"
  std::vector<std::uint64_t> oracle_;  // what the region must contain
  Region region_;
};

// --- dirty tracking against an oracle

class Tracked {
 public:
  explicit Tracked(const Plan& plan) {
    RegionOptions options;
    options.dirty = plan.dirty;
    options.backing = plan.dirty == DirtyForm::ring ? Backing::anonymous : plan.backing;
    if (plan.dirty == DirtyForm::traps) options.backend = plan.backend;
    region_ = must(Region::create(kDirtyPages * page_size(), options), "create a tracked region");
    must(region_.arm_dirty(region_.range()), "arm");
  }

  void write(std::size_t page) {
    started_[page].fetch_add(1);
    std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(at(page))).fetch_add(1);
    finished_[page].fetch_add(1);
  }

  // A write that finished before the call, and began after the last call that reported its page,
  // must be in this one.
  void collect() {
    std::array<std::uint64_t, kDirtyPages> before{};
    for (std::size_t page = 0; page < kDirtyPages; ++page) before[page] = finished_[page];
    found_.clear();
    must(region_.dirty(region_.range(), found_), "dirty");
    std::array<bool, kDirtyPages> reported{};
    for (const PageRange& range : found_)
      for (std::byte* page = range.base; page < range.end(); page += page_size())
        reported[static_cast<std::size_t>(page - region_.data()) / page_size()] = true;
    for (std::size_t page = 0; page < kDirtyPages; ++page) {
      if (!reported[page] && before[page] > known_[page]) fail("DIRTY lost a write", page);
      if (!reported[page]) continue;
      known_[page] = started_[page];
      g_tally->dirty.fetch_add(1, std::memory_order_relaxed);
    }
    g_tally->collects.fetch_add(1);
  }

  // In a fork()ed child: nobody else writes here.
  void check_child() {
    found_.clear();
    must(region_.dirty(region_.range(), found_), "dirty in a child");
    found_.clear();
    write(5);
    must(region_.dirty(region_.range(), found_), "dirty in a child");
    if (found_.size() != 1 || found_[0].base != at(5)) fail("the child's DIRTY");
  }

 private:
  std::byte* at(std::size_t page) const { return region_.data() + page * page_size(); }
  Region region_;
  std::array<std::atomic<std::uint64_t>, kDirtyPages> started_{};
  std::array<std::atomic<std::uint64_t>, kDirtyPages> finished_{};
  std::array<std::uint64_t, kDirtyPages> known_{};  // writes that may have been reported
  std::vector<PageRange> found_;
};

// --- one round

Verdict open_page(void*, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  g_tally->faults.fetch_add(1, std::memory_order_relaxed);
  return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
}

Region short_region(BackendId backend, std::size_t pages) {
  RegionOptions options;
  options.backend = backend;
  options.faults = FaultKind::write_protected;
  Region region = must(Region::create(pages * page_size(), options), "create a short-lived region");
  must(region.on_fault(open_page, nullptr), "on_fault");
  return region;
}

Region* g_timer_region = nullptr;
void on_timer(int) {
  const int saved = errno;
  g_tally->signals.fetch_add(1, std::memory_order_relaxed);
  const PageRange page{g_timer_region->data(), Pages{1}};
  static_cast<void>(g_timer_region->protect(page, Access::read));
  std::atomic_ref<unsigned>(*reinterpret_cast<unsigned*>(page.base)).fetch_add(1);
  errno = saved;
}

class Round {
 public:
  explicit Round(const Plan& plan)
      : plan_(plan),
        end_(std::chrono::steady_clock::now() + std::chrono::seconds(plan.seconds)),
        paged_(plan),
        tracked_(plan),
        timer_region_(short_region(plan.backend, 1)) {}

  void run() {
    start_timer();
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < kWorkers; ++i) threads.emplace_back([this, i] { work(i); });
    threads.emplace_back([this] { come_and_go(); });
    threads.emplace_back([this] { collect(); });
    fork_children();
    for (std::thread& thread : threads) thread.join();
    stop_timer();
    paged_.check_all();
    tracked_.collect();
  }

 private:
  [[nodiscard]] bool goes_on() const { return std::chrono::steady_clock::now() < end_; }

  void start_timer() {
    g_timer_region = &timer_region_;
    struct sigaction action {};
    action.sa_handler = on_timer;
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGALRM, &action, nullptr);
    const itimerval period{{0, 1000}, {0, 1000}};
    ::setitimer(ITIMER_REAL, &period, nullptr);
  }
  static void stop_timer() {
    const itimerval off{};
    ::setitimer(ITIMER_REAL, &off, nullptr);
    ::signal(SIGALRM, SIG_IGN);
  }

  // A worker is many threads in a row: each lives for some thousand steps.
  void work(std::size_t number) {
    for (std::uint64_t life = 0; goes_on(); ++life) {
      std::thread([this, number, life] {
        std::mt19937_64 random(plan_.seed + number * 1000003 + life);
        for (int i = 0; i < 3000 && goes_on(); ++i) {
          paged_.step(number * kPagesEach, random);
          tracked_.write(random() % kDirtyPages);
        }
      }).join();
      g_tally->threads.fetch_add(1);
    }
  }

  void come_and_go() const {
    std::mt19937_64 random(plan_.seed ^ 0x5555);
    while (goes_on()) {
      const std::size_t pages = 1 + random() % 16;
      Region region = short_region(plan_.backend, pages);
      must(region.protect(region.range(), Access::read), "protect");
      for (std::size_t page = 0; page < pages; ++page)
        *reinterpret_cast<volatile char*>(region.data() + page * page_size()) = 1;
      g_tally->regions.fetch_add(1);
    }
  }

  void collect() {
    std::mt19937_64 random(plan_.seed ^ 0xaaaa);
    while (goes_on()) {
      tracked_.collect();
      if (random() % 4 == 0) ::usleep(static_cast<useconds_t>(random() % 2000));
    }
  }

  void fork_children() {
    // The sanitizer's allocator, which other threads use at this moment, may stay locked in a
    // child.
    if (&__asan_init != nullptr) return;
    while (goes_on()) {
      const pid_t child = ::fork();
      if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        // A child has no timers; an alarm would meet the handler above.
        ::signal(SIGALRM, SIG_DFL);
        ::alarm(kGrace / 2);
        // Where memory is shared, a child would page in from a disk of its own.
        if (plan_.backing == Backing::anonymous) paged_.check_stamps();
        tracked_.check_child();
        Region own = short_region(plan_.backend, 2);
        ::_exit(0);
      }
      if (child < 0) fail("fork");
      int status = 0;
      while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
      }
      if (status != 0) {
        ::dprintf(STDERR_FILENO, "stress: a child ended with status %#x\n", status);
        ::_exit(1);
      }
      g_tally->forks.fetch_add(1);
      ::usleep(3000);
    }
  }

  Plan plan_;
  std::chrono::steady_clock::time_point end_;
  Paged paged_;
  Tracked tracked_;
  Region timer_region_;
};

// --- the rounds

const char* name_of(DirtyForm form) {
  return form == DirtyForm::scan ? "scan" : form == DirtyForm::ring ? "ring" : "traps";
}

std::string words_of(const Plan& plan, unsigned round) {
  std::array<char, 160> line{};
  std::snprintf(
      line.data(), line.size(), "round %u: %s, %s, %u handler threads, dirty %s, seed %llu", round,
      name(plan.backend), plan.backing == Backing::memfd ? "memfd" : "anonymous",
      plan.handler_threads, name_of(plan.dirty), static_cast<unsigned long long>(plan.seed));
  return line.data();
}

bool is_possible(const Plan& plan) {
  const FaultSet faults = FaultKind::missing | FaultKind::write_protected;
  if (!capabilities(plan.backend, plan.backing).faults.covers(faults)) return false;
  RegionOptions options;
  options.dirty = plan.dirty;
  return static_cast<bool>(Region::create(page_size(), options));
}

std::vector<Plan> all_plans() {
  std::vector<Plan> plans;
  for (const DirtyForm dirty : {DirtyForm::traps, DirtyForm::scan, DirtyForm::ring})
    for (const Backing backing : {Backing::anonymous, Backing::memfd})
      for (const BackendId backend :
           {BackendId::uffd_inline, BackendId::uffd_thread, BackendId::mprotect}) {
        const Plan plan{backend, backing, plans.size() % 2 == 0 ? 1U : 3U, dirty, 0, kRoundSeconds};
        if (is_possible(plan)) plans.push_back(plan);
      }
  return plans;
}

// Whether the round found nothing.
bool run_in_child(const Plan& plan, unsigned round) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::make_unique<Round>(plan)->run();
    ::_exit(0);
  }
  if (child < 0) return false;
  ::setpgid(child, child);
  const int handle = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
  pollfd ended{handle, POLLIN, 0};
  const int ready = ::poll(&ended, 1, static_cast<int>(plan.seconds + kGrace) * 1000);
  ::close(handle);
  ::kill(-child, SIGKILL);  // also what it left behind
  int status = 0;
  ::waitpid(child, &status, 0);
  if (ready != 0 && status == 0) return true;
  std::printf("FOUND in %s: %s (wait status %#x)\n", words_of(plan, round).c_str(),
              ready == 0            ? "a hang"
              : WIFSIGNALED(status) ? "a crash"
                                    : "an inconsistency",
              status);
  return false;
}

void print_summary(const char* when, unsigned rounds, long long seconds, unsigned found) {
  const auto n = [](const std::atomic<std::uint64_t>& count) {
    return static_cast<unsigned long long>(count.load());
  };
  std::printf(
      "%s %lld s: %u rounds, %llu faults, %llu writes, %llu protects, %llu discards, %llu forks, "
      "%llu regions, %llu threads, %llu signals, %llu collects of %llu pages; %u found\n",
      when, seconds, rounds, n(g_tally->faults), n(g_tally->writes), n(g_tally->protects),
      n(g_tally->discards), n(g_tally->forks), n(g_tally->regions), n(g_tally->threads),
      n(g_tally->signals), n(g_tally->collects), n(g_tally->dirty), found);
  std::fflush(stdout);
}

int run(unsigned seconds, std::uint64_t seed, long only_round) {
  void* const shared =
      ::mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return 2;
  g_tally = new (shared) Tally{};
  const std::vector<Plan> plans = all_plans();
  std::printf("stress: %u s, seed %llu, %zu combinations of backend, backing and tracking\n",
              seconds, static_cast<unsigned long long>(seed), plans.size());
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [begin] {
    return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() -
                                                            begin)
        .count();
  };
  unsigned rounds = 0;
  unsigned found = 0;
  long long next_line = 60;
  for (unsigned round = only_round >= 0 ? static_cast<unsigned>(only_round) : 0;
       elapsed() < static_cast<long long>(seconds); ++round) {
    Plan plan = plans[round % plans.size()];
    plan.seed = seed + round;
    // Short runs see several combinations as well.
    plan.seconds = seconds < 60 ? 1 : kRoundSeconds;
    found += run_in_child(plan, round) ? 0 : 1;
    ++rounds;
    if (elapsed() >= next_line) {
      print_summary("after", rounds, elapsed(), found);
      next_line += 60;
    }
    if (only_round >= 0) break;
  }
  print_summary("stress: end after", rounds, elapsed(), found);
  return found == 0 ? 0 : 1;
}

}  // namespace
}  // namespace pagetrap

int main(int argc, char** argv) {
  unsigned seconds = 600;
  std::uint64_t seed = 1991;
  long only_round = -1;
  for (int i = 1; i < argc; i += 2) {
    const std::string option = argv[i];
    char* end = nullptr;
    const long value = i + 1 < argc ? std::strtol(argv[i + 1], &end, 0) : -1;
    const bool is_number = end != nullptr && *end == '\0' && value >= 0;
    if (is_number && option == "--seconds") {
      seconds = static_cast<unsigned>(value);
    } else if (is_number && option == "--seed") {
      seed = static_cast<std::uint64_t>(value);
    } else if (is_number && option == "--round") {
      only_round = value;
    } else {
      std::fprintf(stderr, "usage: %s [--seconds N] [--seed S] [--round R]\n", argv[0]);
      return 2;
    }
  }
  return pagetrap::run(seconds, seed, only_round);
}
