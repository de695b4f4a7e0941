// Threads that are born, exit, block signals or have left while others work with regions, and
// for_every_other_thread() among them.
#include <malloc.h>
#include <pthread.h>

#include <memory>
#include <mutex>
#include <thread>

#include "hazards/support.hpp"

namespace pagetrap::hazards {
namespace {

TEST(Threads, ThatFaultOnceAndExit) {
  const FaultSet faults = FaultKind::write_protected;
  for (const BackendId id : backends_for(faults)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id, faults] {
                constexpr std::size_t kThreads = 300;
                Region region =
                    must(Region::create(kThreads * page_size(), options_for(id, faults)), "create");
                Opener opener;
                must(region.on_fault(Opener::open, &opener), "on_fault");
                must(region.protect(region.range(), Access::read), "protect");
                for (std::size_t i = 0; i < kThreads; i += 3) {
                  std::thread a([&] { store(page_at(region, i).base, 1); });
                  std::thread b([&] { store(page_at(region, i + 1).base, 2); });
                  // Dies with its handler still to come, so to speak: pthread_exit right after.
                  pthread_t c;
                  require(::pthread_create(
                              &c, nullptr,
                              [](void* page) -> void* {
                                store(static_cast<std::byte*>(page), 3);
                                ::pthread_exit(nullptr);
                              },
                              page_at(region, i + 2).base) == 0,
                          "thread");
                  a.join();
                  b.join();
                  ::pthread_join(c, nullptr);
                }
                require(opener.faults == kThreads, "one fault each");
              }));
  }
}

TEST(Threads, AFaultNamesItsThread) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                Region region =
                    must(Region::create(page_size(), options_for(id, FaultKind::write_protected)),
                         "create");
                std::atomic<pid_t> named{0};
                struct Self {
                  std::atomic<pid_t>* named;
                } self{&named};
                must(region.on_fault(
                         [](void* argument, const Fault& fault) noexcept {
                           static_cast<Self*>(argument)->named->store(fault.thread);
                           return fault.region->unprotect(fault.page) ? Verdict::resolved
                                                                      : Verdict::not_mine;
                         },
                         &self),
                     "on_fault");
                for (int i = 0; i < 20; ++i) {
                  std::thread([&] {
                    must(region.protect(region.range(), Access::read), "protect");
                    store(region.data(), 1);
                    require(named == thread_id(), "the faulting thread");
                  }).join();
                }
              }));
  }
}

// Writes by a thread that is gone when its writes are collected.
TEST(Threads, WritesOfAThreadThatHasExitedAreDirty) {
  for (const DirtyForm form : {DirtyForm::scan, DirtyForm::traps, DirtyForm::ring}) {
    RegionOptions options;
    options.dirty = form;
    if (!Region::create(page_size(), options)) continue;
    EXPECT_EQ(kSucceeded, in_child([options] {
                constexpr std::size_t kPages = 64;
                Region region = must(Region::create(kPages * page_size(), options), "create");
                std::vector<PageRange> found;
                for (std::size_t round = 0; round < 40; ++round) {
                  must(region.arm_dirty(region.range()), "arm");
                  const std::size_t page = round * 7 % kPages;
                  std::thread([&] { store(page_at(region, page).base, 1); }).join();
                  found.clear();
                  must(region.dirty(region.range(), found), "dirty");
                  require(found.size() == 1 && found[0] == page_at(region, page), "its write");
                }
              }))
        << static_cast<int>(form);
  }
}

constexpr std::size_t kRounds = 60;

// What a thread keeps for the work that is run in it. `runs` is indexed by round.
struct Mine {
  std::array<std::uint8_t, kRounds + 1> runs{};
};
constinit thread_local Mine* t_mine = nullptr;
std::atomic<std::size_t> g_round{0};  // the round that runs or ran last
std::atomic<std::size_t> g_ended{0};  // rounds that have ended

void count_run(void*, void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  if (t_mine == nullptr || context == nullptr) return;
  t_mine->runs[g_round.load()] = static_cast<std::uint8_t>(t_mine->runs[g_round.load()] + 1);
}

// Between its two readings, a thread has lived through the rounds that began after the first and
// ended before the second: in each of them the work has run in it exactly once.
class Witness {
 public:
  Witness() : begun_before_(g_round) { t_mine = &mine_; }
  ~Witness() {
    const std::size_t ended = g_ended;
    t_mine = nullptr;
    for (std::size_t round = begun_before_ + 1; round <= ended; ++round)
      require(mine_.runs[round] == 1, "the work ran once in a thread that lived through the call");
    for (const std::uint8_t runs : mine_.runs) require(runs <= 1, "never twice");
  }
  Witness(const Witness&) = delete;
  Witness& operator=(const Witness&) = delete;

 private:
  Mine mine_;
  std::size_t begun_before_;
};

// Threads that come and go all the time, each a witness for as long as it lives.
class Churn {
 public:
  explicit Churn(unsigned spawners) {
    for (unsigned i = 0; i < spawners; ++i) {
      spawners_.emplace_back([this, i] {
        const Witness witness;
        for (unsigned n = i; !stop_; ++n) {
          std::thread short_lived([n] {
            const Witness own;
            std::thread child([] { const Witness of_child; });
            if (n % 3 == 0) ::usleep(200);
            child.join();
          });
          short_lived.join();
          born_.fetch_add(2);
        }
      });
    }
  }
  ~Churn() {
    stop_ = true;
    for (std::thread& thread : spawners_) thread.join();
  }
  Churn(const Churn&) = delete;
  Churn& operator=(const Churn&) = delete;
  [[nodiscard]] int born() const { return born_; }

 private:
  std::atomic<bool> stop_{false};
  std::atomic<int> born_{0};
  std::vector<std::thread> spawners_;
};

void run_rounds(Rendezvous rendezvous) {
  for (std::size_t round = 1; round <= kRounds; ++round) {
    g_round = round;
    must(for_every_other_thread(count_run, nullptr, rendezvous), "for_every_other_thread");
    g_ended = round;
    if (round % 8 == 0) ::usleep(1000);
  }
}

TEST(Broadcast, RunsOnceInEveryThreadWhileThreadsAreBornAndExit) {
  EXPECT_EQ(kSucceeded, in_child(
                            [] {
                              std::atomic<bool> stop{false};
                              std::vector<std::thread> steady;
                              for (int i = 0; i < 4; ++i) {
                                steady.emplace_back([&stop, i] {
                                  const Witness witness;
                                  while (!stop) {
                                    if (i % 2 == 0) ::usleep(300);  // in the kernel, or running
                                  }
                                });
                              }
                              int born = 0;
                              {
                                const Churn churn(3);
                                run_rounds(nullptr);
                                born = churn.born();
                              }
                              stop = true;
                              for (std::thread& thread : steady) thread.join();
                              require(born > 20, "threads were born meanwhile");
                            },
                            40));
}

// Eight counters run freely; while the rendezvous lasts none of them moves.
struct Held {
  std::array<std::atomic<std::uint64_t>, 4> counters{};
  std::atomic<std::uint64_t> births{0};
  int moved = 0;
  int looked = 0;
  std::uint64_t sum() const {
    std::uint64_t all = births;
    for (const auto& counter : counters) all += counter;
    return all;
  }
};
Held g_held;

void look_twice(void*) {
  const std::uint64_t before = g_held.sum();
  ::usleep(2000);
  g_held.moved += g_held.sum() != before ? 1 : 0;
  g_held.looked += 1;
}

TEST(Broadcast, RendezvousHoldsEverybody) {
  EXPECT_EQ(kSucceeded, in_child(
                            [] {
                              std::atomic<bool> stop{false};
                              std::vector<std::thread> threads;
                              for (auto& counter : g_held.counters) {
                                threads.emplace_back([&] {
                                  const Witness witness;
                                  while (!stop) counter.fetch_add(1);
                                });
                              }
                              std::thread births([&] {
                                while (!stop)
                                  std::thread([] { g_held.births.fetch_add(1); }).join();
                              });
                              run_rounds(look_twice);
                              stop = true;
                              births.join();
                              for (std::thread& thread : threads) thread.join();
                              require(g_held.looked == kRounds, "every rendezvous ran");
                              require(g_held.moved == 0, "nobody moved during a rendezvous");
                              require(g_held.sum() > 1000, "they did before and after");
                            },
                            40));
}

// Threads are held wherever they are, inside malloc() with its lock held too. The caller, and the
// threads that have yet to answer, must not need that lock.
TEST(Broadcast, RendezvousWhileThreadsAllocate) {
  EXPECT_EQ(kSucceeded, in_child(
                            [] {
                              ::mallopt(M_ARENA_MAX, 1);
                              std::atomic<bool> stop{false};
                              std::vector<std::thread> threads;
                              for (std::size_t i = 0; i < 3; ++i) {
                                threads.emplace_back([&stop, i] {
                                  // Beyond what a thread keeps for itself: each takes the lock.
                                  while (!stop) {
                                    auto* const block = new volatile char[3000 + 1000 * i];
                                    block[0] = 1;
                                    delete[] block;
                                  }
                                });
                              }
                              for (int i = 0; i < 300; ++i)
                                must(for_every_other_thread([](void*, void*) noexcept {}, nullptr,
                                                            [](void*) {}),
                                     "rendezvous");
                              stop = true;
                              for (std::thread& thread : threads) thread.join();
                            },
                            15));
}

// Threads inside fault handlers are reached like all others.
TEST(Broadcast, ReachesThreadsInsideFaultHandlers) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(
        kSucceeded,
        in_child(
            [id] {
              Region region =
                  must(Region::create(4 * page_size(), options_for(id, FaultKind::write_protected)),
                       "create");
              Opener opener;
              must(region.on_fault(Opener::open, &opener), "on_fault");
              std::atomic<bool> stop{false};
              std::vector<std::thread> threads;
              for (std::size_t i = 0; i < 4; ++i) {
                threads.emplace_back([&, i] {
                  const Witness witness;
                  while (!stop) {
                    must(region.protect(page_at(region, i), Access::read), "protect");
                    store(page_at(region, i).base, 1);
                  }
                });
              }
              run_rounds(nullptr);
              stop = true;
              for (std::thread& thread : threads) thread.join();
            },
            40));
  }
}

void block(int how) {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, freeze_signal());
  ::pthread_sigmask(how, &set, nullptr);
}

// Callers exclude each other, and whoever waits for his turn answers the one whose turn it is.
TEST(Broadcast, ManyAtOnce) {
  EXPECT_EQ(kSucceeded, in_child([] {
              static std::atomic<unsigned> runs{0};
              set_freeze_timeout(std::chrono::milliseconds(10'000));
              const ThreadWork answer = [](void*, void*) noexcept { runs.fetch_add(1); };
              const Rendezvous meet = [](void*) {};
              constexpr unsigned kCallers = 4;
              constexpr unsigned kEach = 25;
              std::vector<std::thread> callers;
              for (unsigned i = 0; i < kCallers; ++i) {
                callers.emplace_back([answer, meet] {
                  for (unsigned round = 0; round < kEach; ++round)
                    must(for_every_other_thread(answer, nullptr, round % 2 == 0 ? nullptr : meet),
                         "broadcast");
                });
              }
              for (std::thread& caller : callers) caller.join();
              require(runs >= kCallers * kEach, "the first thread answered each");
            }));
}

TEST(Broadcast, AThreadThatBlocksTheSignalIsAnErrorAndNotAHang) {
  EXPECT_EQ(kSucceeded, in_child([] {
              std::atomic<int> phase{0};
              std::thread deaf([&] {
                block(SIG_BLOCK);
                phase = 1;
                while (phase != 2) ::usleep(500);
                block(SIG_UNBLOCK);  // the signals of the round that gave up arrive now
                const Witness witness;
                phase = 3;
                while (phase != 4) ::usleep(500);
              });
              while (phase != 1) ::usleep(500);
              set_freeze_timeout(std::chrono::milliseconds(50));
              static bool met = false;
              static std::atomic<int> late{0};
              g_round = 1;
              const auto refused =
                  for_every_other_thread([](void*, void*) noexcept { late.fetch_add(1); }, nullptr,
                                         [](void*) { met = true; });
              require(!refused && refused.error().number == ETIMEDOUT, "ETIMEDOUT");
              require(*refused.error().remedy != '\0' && !met, "with a remedy; no rendezvous");
              phase = 2;
              while (phase != 3) ::usleep(500);
              set_freeze_timeout(std::chrono::milliseconds(5000));
              for (std::size_t round = 2; round <= 10; ++round) {
                g_round = round;
                must(for_every_other_thread(count_run, nullptr), "the next ones succeed");
              }
              require(late == 0, "work of the round that gave up never runs");
              g_ended = 10;
              phase = 4;
              deaf.join();
            }));
}

TEST(Broadcast, AFreezeThatTimesOutThawsAgain) {
  RegionOptions options;
  options.freezable = true;
  options.faults = FaultKind::write_protected;
  EXPECT_EQ(kSucceeded, in_child([options] {
              Region region = must(Region::create(4 * page_size(), options), "create");
              std::atomic<bool> stop{false};
              std::thread deaf([&] {
                block(SIG_BLOCK);
                while (!stop) ::usleep(500);
              });
              ::usleep(20'000);
              set_freeze_timeout(std::chrono::milliseconds(50));
              const auto frozen = region.freeze();
              // Without protection keys freeze() needs no answers, and succeeds.
              if (!frozen) require(frozen.error().number == ETIMEDOUT, "ETIMEDOUT");
              if (frozen) must(region.thaw(), "thaw");
              require(!region.frozen(), "thawed");
              std::thread([&] { store(region.data(), 1); }).join();
              stop = true;
              deaf.join();
            }));
}

// The main thread has left by pthread_exit: the process lives on with a zombie as its leader, whose
// /proc/self/mem and pagemap can no longer be opened.
void* without_main_thread(void* argument) {
  const pthread_t main_thread = *static_cast<pthread_t*>(argument);
  ::pthread_join(main_thread, nullptr);
  ::usleep(20'000);
  std::atomic<bool> stop{false};
  {
    const Witness witness;
    std::thread other([&] {
      const Witness of_other;
      while (!stop) ::usleep(300);
    });
    std::thread broadcasting([] {
      for (std::size_t round = 1; round <= 10; ++round) {
        g_round = round;
        must(for_every_other_thread(count_run, nullptr), "broadcast");
        g_ended = round;
      }
    });
    broadcasting.join();
    stop = true;
    other.join();
  }
  for (const BackendId id : backends_for(FaultKind::missing)) {
    Region region =
        must(Region::create(2 * page_size(), options_for(id, FaultKind::missing)), name(id));
    Opener opener;
    must(region.on_fault(Opener::open, &opener), "on_fault");
    store(region.data(), 1);
    require(opener.faults == 1, "a missing page");
    std::byte* const buffer = foreign_pages(1, PROT_READ | PROT_WRITE);
    store(buffer, 9);
    must(region.supply(page_at(region, 1), buffer, Supply::copy), "supply");
    require(load(page_at(region, 1).base) == 9, "supplied");
  }
  RegionOptions options;
  options.dirty = DirtyForm::best;
  Region tracked = must(Region::create(4 * page_size(), options), "dirty region");
  must(tracked.arm_dirty(tracked.range()), "arm");
  store(tracked.data(), 1);
  std::vector<PageRange> found;
  must(tracked.dirty(tracked.range(), found), "dirty");
  require(found.size() == 1, "the page written");
  require(in_forked_copy([&] { store(tracked.data(), 2); }) == kSucceeded, "fork");
  ::_exit(0);
}

TEST(MainThread, MayLeave) {
  EXPECT_EQ(kSucceeded, in_child([] {
              static pthread_t self = ::pthread_self();
              pthread_t other;
              require(::pthread_create(&other, nullptr, without_main_thread, &self) == 0, "thread");
              // As pthread_exit() ends, without unwinding through the test framework.
              ::syscall(SYS_exit, 0);
            }));
}

}  // namespace
}  // namespace pagetrap::hazards
