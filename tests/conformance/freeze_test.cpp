// Freeze and thaw of whole regions, and windows: with protection keys where there are some, by
// protecting pages elsewhere; the same meaning.
#include <signal.h>

#include <thread>

#include "conformance/fixture.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::conformance {
namespace {

constexpr std::size_t kPages = 32;
constexpr unsigned kWriters = 3;

class Freeze : public Conformance {
 protected:
  [[nodiscard]] FaultSet needs() const override { return FaultKind::write_protected; }

  Region make_freezable(FaultSet faults, FaultLog* log) {
    RegionOptions asked = options(kPages, faults);
    asked.freezable = true;
    return make_with(kPages, asked, log);
  }
};

// Threads that write without end, each a word of its own in every page.
class Writers {
 public:
  Writers(Region& region, Way way) : region_(region), way_(way) {
    for (unsigned t = 0; t < kWriters; ++t) threads_.emplace_back([this, t] { run(t); });
  }
  ~Writers() {
    stop_.store(true);
    for (std::thread& thread : threads_) thread.join();
  }
  Writers(const Writers&) = delete;
  Writers& operator=(const Writers&) = delete;

  /// Sum of what is in memory, by plain loads.
  std::uint64_t sum() {
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < kPages; ++i)
      for (unsigned t = 0; t < kWriters; ++t)
        total += std::atomic_ref<std::uint64_t>(word(i, t)).load();
    return total;
  }
  /// Waits until every writer has gone on.
  void wait_for_progress() {
    std::array<std::uint64_t, kWriters> before;
    for (unsigned t = 0; t < kWriters; ++t) before[t] = rounds_[t].load();
    for (unsigned t = 0; t < kWriters; ++t)
      while (rounds_[t].load() < before[t] + 2) sys::yield();
  }

 private:
  std::uint64_t& word(std::size_t page, unsigned thread) {
    return *reinterpret_cast<std::uint64_t*>(page_at(region_, page) + 8 * thread);
  }
  void run(unsigned t) {
    for (std::uint64_t round = 1; !stop_.load(); ++round) {
      for (std::size_t i = 0; i < kPages; ++i) store(region_, &word(i, t), round, way_);
      rounds_[t].store(round);
    }
  }
  Region& region_;
  Way way_;
  std::atomic<bool> stop_{false};
  std::array<std::atomic<std::uint64_t>, kWriters> rounds_{};
  std::vector<std::thread> threads_;
};

TEST_P(Freeze, WritersWaitAndGoOnAfterThaw) {
  FaultLog log;
  Region region = make_freezable(FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  Writers writers(region, ways().back());
  for (unsigned round = 0; round < (is_null() ? 3 : 12); ++round) {
    writers.wait_for_progress();
    const auto frozen = region.freeze(Access::read);
    ASSERT_TRUE(frozen) << describe(frozen.error());
    EXPECT_TRUE(region.frozen());
    // On the null backend a store is not one step with its touch: one each may be under way.
    const std::uint64_t at_freeze = writers.sum();
    for (unsigned i = 0; i < (is_null() ? 4 : 50); ++i) sys::yield();
    while (log.frozen.load() == 0) sys::yield();  // somebody has met the freeze
    const std::uint64_t later = writers.sum();
    if (is_null()) {
      EXPECT_LE(later - at_freeze, kWriters);
    } else {
      EXPECT_EQ(later, at_freeze);
    }
    // Reading goes on.
    for (std::size_t i = 0; i < kPages; ++i)
      EXPECT_EQ(load(region, page_at(region, i) + 64, ways().back()), stamp(i));
    const auto again = region.freeze(Access::read);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().number, EALREADY);
    const auto thawed = region.thaw();
    ASSERT_TRUE(thawed) << describe(thawed.error());
    EXPECT_FALSE(region.frozen());
  }
  writers.wait_for_progress();
  EXPECT_GT(log.frozen.load(), 0U);
  EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
}

TEST_P(Freeze, ReadersWaitIfNothingIsLeft) {
  const FaultSet both = FaultKind::write_protected | FaultKind::no_access;
  if (!can_raise(both)) GTEST_SKIP() << "cannot raise no_access";
  if (is_uffd() && !has_feature("uffd.wp_unpopulated"))
    GTEST_SKIP() << "UFFDIO_CONTINUE cannot protect what it maps before Linux 6.4";
  FaultLog log;
  Region region = make_freezable(both, &log);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  for (unsigned round = 0; round < 10; ++round) {
    ASSERT_TRUE(region.freeze(Access::none));
    std::atomic<bool> read{false};
    log.frozen.store(0);
    std::thread reader([&] {
      EXPECT_EQ(load(region, page_at(region, 3), ways().back()), stamp(3));
      read.store(true);
    });
    while (log.frozen.load() == 0) sys::yield();
    EXPECT_FALSE(read.load());
    EXPECT_TRUE(region.thaw());
    reader.join();
    EXPECT_TRUE(read.load());
  }
}

TEST_P(Freeze, ProtectedPagesStayProtectedAfterThaw) {
  if (!can().per_page) GTEST_SKIP() << "rights of single pages do not exist on this backend";
  FaultLog log;
  Region region = make_freezable(FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  region.protect(pages_at(region, 5, 4), Access::read).value();
  ASSERT_TRUE(region.freeze());
  ASSERT_TRUE(region.thaw());
  for (std::size_t i = 0; i < kPages; ++i) {
    const unsigned before = log.total();
    store(region, page_at(region, i), i, ways().back());
    EXPECT_EQ(log.total(), before + (i >= 5 && i < 9 ? 1 : 0)) << i;
  }
}

// A handler that copies a page aside and opens it, as a checkpoint does: the writer need not wait.
TEST_P(Freeze, HandlerMayOpenPagesOfAFrozenRegion) {
  if (!can().per_page) GTEST_SKIP() << "rights of single pages do not exist on this backend";
  if (protection_keys_available()) GTEST_SKIP() << "a key freezes the whole region";
  struct Saver {
    std::array<std::uint64_t, kPages> saved{};
    std::atomic<unsigned> frozen{0};
    static Verdict on_fault(void* self, const Fault& fault) noexcept {
      auto& me = *static_cast<Saver*>(self);
      if (!fault.frozen) return Verdict::not_mine;
      me.frozen.fetch_add(1);
      const std::size_t i = index_in(*fault.region, fault.page.base);
      me.saved[i] = *reinterpret_cast<const std::uint64_t*>(fault.page.base);
      return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
    }
  };
  Saver saver;
  Region region = make_freezable(FaultKind::write_protected, nullptr);
  ASSERT_TRUE(region.valid());
  region.on_fault(Saver::on_fault, &saver).value();
  write_stamps(region);
  ASSERT_TRUE(region.freeze());
  for (std::size_t i = 0; i < kPages; i += 2) store(region, page_at(region, i), 1, ways().back());
  EXPECT_EQ(saver.frozen.load(), kPages / 2);
  for (std::size_t i = 0; i < kPages; i += 2) EXPECT_EQ(saver.saved[i], stamp(i));
  ASSERT_TRUE(region.thaw());
  for (std::size_t i = 0; i < kPages; ++i) store(region, page_at(region, i), 2, ways().back());
  EXPECT_EQ(saver.frozen.load(), kPages / 2);
}

TEST_P(Freeze, RegionMayEndFrozen) {
  if (is_null()) GTEST_SKIP() << "touch() of a region that ends";
  std::thread writer;
  {
    FaultLog log;
    Region region = make_freezable(FaultKind::write_protected, &log);
    ASSERT_TRUE(region.valid());
    ASSERT_TRUE(region.freeze());
    writer = std::thread([at = page_at(region, 1), &region] { store(region, at, 9, Way::plain); });
    while (log.frozen.load() == 0) sys::yield();
    EXPECT_TRUE(region.thaw());
    writer.join();
    ASSERT_TRUE(region.freeze());
  }
}

TEST_P(Freeze, RefusesNonsense) {
  Region region = make_freezable(FaultKind::write_protected, nullptr);
  ASSERT_TRUE(region.valid());
  const auto done = region.freeze(Access::read_write);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().number, EINVAL);
  EXPECT_FALSE(region.frozen());
  EXPECT_TRUE(region.thaw());
}

// Without a handler a region just waits (freeze.hpp).
TEST_P(Freeze, ThreadsComeAndGoMeanwhile) {
  Region region = make_freezable(FaultKind::write_protected, nullptr);
  ASSERT_TRUE(region.valid());
  // In a child: without a handler, a fault that is not taken for a frozen one kills.
  const Ending ending = in_child([&] {
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> born{0};
    std::atomic<unsigned> failures{0};
    std::thread breeder([&] {
      while (!stop.load()) {
        std::thread([&] {
          store(region, page_at(region, born.load() % kPages), 1, ways().back());
          born.fetch_add(1);
        }).join();
      }
    });
    for (unsigned round = 0; round < 60; ++round) {
      const std::uint64_t before = born.load();
      if (!region.freeze()) failures.fetch_add(1);
      if (!region.thaw()) failures.fetch_add(1);
      while (born.load() < before + 1) sys::yield();
    }
    stop.store(true);
    breeder.join();
    CHILD_CHECK(failures.load() == 0);
    return 0;
  });
  EXPECT_EQ(ending.status, 0) << "signal " << ending.signal << ' ' << ending.output;
}

// A second thread inside `depth` signal handlers of its own. When it is let go it leaves as many as
// it takes to be inside `writes_at`, and writes there.
struct Insider {
  Region& region;
  Way way;
  int depth = 1;
  int writes_at = 0;
  bool uses_it = false;  // each handler has written the region on its way in
  int on_alternate = 3;  // handlers from this one on run on an alternate stack
  std::atomic<bool> inside{false};
  std::atomic<bool> leave{false};
  std::atomic<unsigned> written{0};

  void write(int at) {
    if (at != writes_at) return;
    store(region, page_at(region, 1), 77, way);
    written.fetch_add(1);
  }
  void enter(int signal) const {
    struct sigaction action {};
    action.sa_handler = in_handler;
    action.sa_flags = (signal == SIGUSR1 ? 1 : 2) >= on_alternate ? SA_ONSTACK : 0;
    ::sigaction(signal, &action, nullptr);
    ::raise(signal);
  }
  static void in_handler(int signal) {
    Insider& me = *self;
    const int here = signal == SIGUSR1 ? 1 : 2;
    if (me.uses_it) store(me.region, page_at(me.region, 2), 1, me.way);
    if (here < me.depth) {
      me.enter(SIGUSR2);
    } else {
      me.inside.store(true);
      while (!me.leave.load()) sys::yield();
    }
    me.write(here);
  }
  void run() {
    ensure_alternate_stack().value();
    store(region, page_at(region, 3), 1, way);  // with all rights, to which it returns
    enter(SIGUSR1);
    write(0);
  }
  static inline Insider* self = nullptr;
};

// The one who freezes, in a child: SIGUSR1 and SIGUSR2 are its own there.
int freeze_an_insider(Insider& insider, const FaultLog& log) {
  Insider::self = &insider;
  Region& region = insider.region;
  store(region, page_at(region, 1), 11, insider.way);
  std::thread([&] { insider.run(); }).detach();  // a check that fails ends the process around it
  while (!insider.inside.load()) sys::yield();
  CHILD_CHECK(region.freeze());
  insider.leave.store(true);
  while (log.frozen.load() == 0 && insider.written.load() == 0) sys::yield();
  for (unsigned i = 0; i < 20; ++i) sys::yield();
  CHILD_CHECK(insider.written.load() == 0);
  CHILD_CHECK(load(region, page_at(region, 1), Way::plain) == 11);
  CHILD_CHECK(region.thaw());
  while (insider.written.load() == 0) sys::yield();
  CHILD_CHECK(load(region, page_at(region, 1), insider.way) == 77);
  return 0;
}

TEST_P(Freeze, AThreadInsideItsOwnSignalHandler) {
  FaultLog log;
  Region region = make_freezable(FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  for (const int depth : {1, 2}) {
    for (int writes_at = depth; writes_at >= 0; --writes_at) {
      for (const bool uses_it : {false, true}) {
        for (int on_alternate = 1; on_alternate <= depth + 1; ++on_alternate) {
          SCOPED_TRACE(testing::Message()
                       << depth << " deep, writes inside " << writes_at << ", the handlers "
                       << (uses_it ? "use" : "do not use") << " the region, on an alternate stack "
                       << "from " << on_alternate << " on");
          Insider insider{region, ways().back(), depth, writes_at, uses_it, on_alternate};
          const Ending ending = in_child([&] { return freeze_an_insider(insider, log); }, 10);
          EXPECT_EQ(ending.status, 0) << "signal " << ending.signal << ' ' << ending.output;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Vm, Freeze, testing::ValuesIn(all_combinations()), test_name);

class Windows : public Conformance {
 protected:
  [[nodiscard]] FaultSet needs() const override { return FaultKind::write_protected; }
};

TEST_P(Windows, OpenForTheirThreadOnly) {
  FaultLog log;
  Region region = make(kPages, FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  region.protect(region.range(), Access::none).value();
  {
    auto window = Window::open(region);
    ASSERT_TRUE(window) << describe(window.error());
    const auto inner = Window::open(region);
    ASSERT_TRUE(inner);
    const Window moved(std::move(*window));
    for (std::size_t i = 0; i < kPages; ++i) {
      EXPECT_EQ(load(region, page_at(region, i), Way::plain), stamp(i));
      store(region, page_at(region, i), i, Way::plain);
    }
    EXPECT_EQ(log.total(), 0U);
  }
  std::thread([&] { EXPECT_EQ(load(region, page_at(region, 1), Way::plain), 1U); }).join();
  EXPECT_EQ(log.count(FaultKind::no_access), 1U);
}

TEST_P(Windows, SeeThroughAFreeze) {
  RegionOptions asked = options(kPages, FaultKind::write_protected);
  asked.freezable = true;
  FaultLog log;
  Region region = make_with(kPages, asked, &log);
  ASSERT_TRUE(region.valid());
  ASSERT_TRUE(region.freeze(Access::none));
  {
    const auto window = Window::open(region);
    ASSERT_TRUE(window);
    store(region, page_at(region, 2), 22, Way::plain);
  }
  EXPECT_EQ(log.total() + log.frozen.load(), 0U);
  ASSERT_TRUE(region.thaw());
  EXPECT_EQ(load(region, page_at(region, 2), Way::plain), 22U);
}

INSTANTIATE_TEST_SUITE_P(Vm, Windows, testing::ValuesIn(with_backends({BackendId::pkey})),
                         test_name);

// The broadcast underneath, on every machine.
struct Work {
  std::atomic<unsigned> done{0};
  std::atomic<unsigned> held{0};
  std::atomic<std::uint64_t>* progress = nullptr;
  std::uint64_t at_start = 0;
  bool moved = false;
  static void run(void* self, void* context) noexcept {
    auto& me = *static_cast<Work*>(self);
    if (context != nullptr) me.done.fetch_add(1);
  }
  static void meet(void* self) {
    auto& me = *static_cast<Work*>(self);
    me.at_start = me.progress->load();
    for (unsigned i = 0; i < 3; ++i) sys::yield();
    me.moved = me.progress->load() != me.at_start;
    me.held.fetch_add(1);
  }
};

TEST(Broadcast, ReachesEveryOtherThreadAndHoldsThem) {
  std::atomic<std::uint64_t> progress{0};
  Crew crew;
  for (unsigned t = 0; t < 5; ++t) {
    crew.add([&] {
      while (crew.working()) {
        progress.fetch_add(1);
        sys::yield();
      }
    });
  }
  // One round right after the other: threads that were held may still be on their way out.
  for (unsigned round = 0; round < 200; ++round) {
    Work work;
    work.progress = &progress;
    const bool holds = round % 4 != 3;
    const auto done = for_every_other_thread(Work::run, &work, holds ? Work::meet : nullptr);
    ASSERT_TRUE(done) << describe(done.error()) << " in round " << round;
    EXPECT_GE(work.done.load(), 5U);
    EXPECT_EQ(work.held.load(), holds ? 1U : 0U);
    EXPECT_FALSE(work.moved);
  }
}

TEST(Broadcast, GivesUpOnAThreadThatBlocksTheSignal) {
  std::atomic<bool> stop{false};
  std::atomic<bool> blocked{false};
  std::thread deaf([&] {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
    blocked.store(true);
    while (!stop.load()) sys::yield();
  });
  while (!blocked.load()) sys::yield();
  set_freeze_timeout(std::chrono::milliseconds(50));
  Work work;
  std::atomic<std::uint64_t> progress{0};
  work.progress = &progress;
  const auto done = for_every_other_thread(Work::run, &work, Work::meet);
  set_freeze_timeout(std::chrono::seconds(1));
  stop.store(true);
  deaf.join();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().number, ETIMEDOUT);
  EXPECT_EQ(work.held.load(), 0U);
}

}  // namespace
}  // namespace pagetrap::conformance
