// Threads: racing for the same pages, hammering rights against an oracle, and regions that end
// while others fault.
#include <algorithm>
#include <thread>

#include "conformance/fixture.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::conformance {
namespace {

const std::vector<BackendId> kPerPage = {BackendId::uffd_inline, BackendId::uffd_thread,
                                         BackendId::mprotect, BackendId::null};

// Starts all threads at once.
class Start {
 public:
  explicit Start(int threads) : missing_(threads) {}
  void wait() {
    missing_.fetch_sub(1);
    while (missing_.load() > 0) sys::yield();
  }

 private:
  std::atomic<int> missing_;
};

class RaceForMissing : public Conformance {
 protected:
  [[nodiscard]] FaultSet needs() const override { return FaultKind::missing; }

  /// Two threads touch every page in the same order. Every page ends right and was filled once.
  void race(Supply how, std::size_t batch) {
    constexpr std::size_t kPages = 256;
    struct Batcher {
      Supply how;
      std::size_t batch;
      const Pattern* source;
      std::atomic<std::size_t> filled{0};
      std::atomic<int> failures{0};
      static Verdict on_fault(void* self, const Fault& fault) noexcept {
        auto& me = *static_cast<Batcher*>(self);
        const std::size_t first = index_in(*fault.region, fault.page.base) / me.batch * me.batch;
        const auto done = fault.region->supply(pages_at(*fault.region, first, me.batch),
                                               me.source->page(first), me.how);
        if (!done) {
          me.failures.store(done.error().number);
          return Verdict::not_mine;
        }
        me.filled.fetch_add(done->count());
        return Verdict::resolved;
      }
    };
    for (unsigned round = 0; round < 4; ++round) {
      const Pattern source(kPages, round);
      Batcher batcher{how, batch, &source};
      RegionOptions asked = options(kPages, FaultKind::missing);
      asked.handler_threads = 2;
      Region region = make_with(kPages, asked);
      ASSERT_TRUE(region.valid());
      region.on_fault(Batcher::on_fault, &batcher).value();
      Start start(2);
      std::atomic<unsigned> wrong{0};
      const auto touch_all = [&] {
        start.wait();
        for (std::size_t i = 0; i < kPages; ++i) {
          load(region, page_at(region, i) + 8, ways().back());
          const std::uint64_t expected = how == Supply::zero ? 0 : stamp(i, round);
          if (!page_is(page_at(region, i), expected)) wrong.fetch_add(1);
        }
      };
      std::thread one(touch_all);
      std::thread two(touch_all);
      one.join();
      two.join();
      region.quiesce();
      EXPECT_EQ(wrong.load(), 0U);
      EXPECT_EQ(batcher.filled.load(), kPages) << "pages filled twice, or not counted";
      EXPECT_EQ(batcher.failures.load(), 0);
    }
  }
};

TEST_P(RaceForMissing, ByCopy) { race(Supply::copy, 1); }
TEST_P(RaceForMissing, ByMove) { race(Supply::move, 1); }
TEST_P(RaceForMissing, ByZero) { race(Supply::zero, 1); }
TEST_P(RaceForMissing, ByCopyInBatches) { race(Supply::copy, 8); }
TEST_P(RaceForMissing, ByMoveInBatches) { race(Supply::move, 8); }
TEST_P(RaceForMissing, ByZeroInBatches) { race(Supply::zero, 8); }

// Pages come and go: a thread that finds a page finds all of it, of one generation.
TEST_P(RaceForMissing, AgainstDiscard) {
  constexpr std::size_t kPages = 32;
  const Pattern source(kPages);
  FaultLog log;
  log.source = source.data();
  RegionOptions asked = options(kPages, FaultKind::missing);
  asked.handler_threads = 2;
  Region region = make_with(kPages, asked, &log);
  ASSERT_TRUE(region.valid());
  std::atomic<bool> stop{false};
  std::atomic<unsigned> wrong{0};
  const auto read_on = [&] {
    while (!stop.load())
      for (std::size_t i = 0; i < kPages; ++i)
        if (load(region, page_at(region, i) + 8 * i, ways().back()) != stamp(i)) wrong.fetch_add(1);
  };
  std::vector<std::thread> readers;
  for (unsigned t = 0; t < 2; ++t) readers.emplace_back(read_on);
  Random random(7);
  unsigned failures = 0;
  for (unsigned round = 0; round < 1500; ++round) {
    const std::size_t first = random.below(kPages);
    const PageRange run = pages_at(region, first, 1 + random.below(kPages - first));
    // On the null backend a load is not one step with its touch: it may find the page gone.
    if (!is_null() && !region.discard(run)) failures += 1;
  }
  stop.store(true);
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(failures, 0U);
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
}

INSTANTIATE_TEST_SUITE_P(Vm, RaceForMissing, testing::ValuesIn(with_backends(kPerPage)), test_name);

class Hammer : public Conformance {
 protected:
  [[nodiscard]] FaultSet needs() const override { return FaultKind::write_protected; }
  static constexpr std::size_t kPages = 64;
  static constexpr unsigned kThreads = 8;
};

// Each page has a lock of the test's own; who holds it knows exactly what the page must do, while
// seven others change its neighbours.
TEST_P(Hammer, EachPageAgainstAnOracle) {
  if (!can().per_page) GTEST_SKIP() << "rights of single pages do not exist on this backend";
  struct Counts {
    std::array<std::atomic<unsigned>, kPages> faults{};
    std::atomic<int> failures{0};
    static Verdict on_fault(void* self, const Fault& fault) noexcept {
      auto& me = *static_cast<Counts*>(self);
      me.faults[index_in(*fault.region, fault.page.base)].fetch_add(1);
      if (fault.region->unprotect(fault.page)) return Verdict::resolved;
      me.failures.fetch_add(1);
      return Verdict::not_mine;
    }
  };
  struct Page {
    std::atomic_flag taken;
    bool closed = false;
    std::uint64_t value = 0;
    unsigned faults = 0;
  };
  Counts counts;
  std::vector<Page> pages(kPages);
  RegionOptions asked = options(kPages, FaultKind::write_protected);
  asked.handler_threads = 3;
  Region region = make_with(kPages, asked);
  ASSERT_TRUE(region.valid());
  region.on_fault(Counts::on_fault, &counts).value();
  std::atomic<unsigned> wrong{0};
  Start start(kThreads);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Random random(100 + t);
      const Way way = is_null() || t % 2 == 0 ? Way::touch : Way::plain;
      start.wait();
      for (unsigned step = 0; step < 1500; ++step) {
        const std::size_t i = random.below(kPages);
        Page& page = pages[i];
        if (page.taken.test_and_set()) continue;
        const PageRange range = pages_at(region, i);
        switch (random.below(4)) {
          case 0:
            if (!region.protect(range, Access::read)) wrong.fetch_add(1);
            page.closed = true;
            break;
          case 1:
            if (!region.unprotect(range)) wrong.fetch_add(1);
            page.closed = false;
            break;
          case 2:
            if (load(region, range.base, way) != page.value) wrong.fetch_add(1);
            break;
          default:
            store(region, range.base, ++page.value, way);
            page.faults += page.closed ? 1 : 0;
            page.closed = false;
        }
        if (counts.faults[i].load() != page.faults) wrong.fetch_add(1);
        page.taken.clear();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_EQ(counts.failures.load(), 0);
  for (std::size_t i = 0; i < kPages; ++i)
    EXPECT_EQ(load(region, page_at(region, i), ways().back()), pages[i].value);
}

// No locks: rights of the same pages change under the feet of eight writers. Each has a word of its
// own in every page, and no store may be lost.
TEST_P(Hammer, NoStoreIsLostWithoutLocks) {
  if (backend() == BackendId::pkey) GTEST_SKIP() << "protects from one thread only";
  FaultLog log;
  RegionOptions asked = options(kPages, FaultKind::write_protected);
  asked.handler_threads = 3;
  Region region = make_with(kPages, asked, &log);
  ASSERT_TRUE(region.valid());
  std::vector<std::array<std::uint64_t, kPages>> written(kThreads);
  std::atomic<unsigned> failures{0};
  Start start(kThreads);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Random random(200 + t);
      written[t].fill(0);
      start.wait();
      for (unsigned step = 0; step < 800; ++step) {
        const std::size_t first = random.below(kPages);
        const std::size_t length = 1 + random.below(std::min<std::size_t>(kPages - first, 36));
        if (step % 4 == 0 && !region.protect(pages_at(region, first, length), Access::read))
          failures.fetch_add(1);
        if (step % 16 == 1 && !region.unprotect(pages_at(region, first, length)))
          failures.fetch_add(1);
        for (std::size_t i = first; i < first + std::min<std::size_t>(length, 3); ++i)
          store(region, page_at(region, i) + 8 * t, ++written[t][i], ways().back());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (unsigned t = 0; t < kThreads; ++t)
    for (std::size_t i = 0; i < kPages; ++i)
      EXPECT_EQ(load(region, page_at(region, i) + 8 * t, ways().back()), written[t][i]);
  EXPECT_EQ(failures.load(), 0U);
  EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
  EXPECT_EQ(log.wrong.load(), 0U);
}

TEST_P(Hammer, RegionsEndWhileOthersFault) {
  FaultLog log;
  Region stable = make(kPages, FaultKind::write_protected, &log);
  ASSERT_TRUE(stable.valid());
  std::atomic<bool> stop{false};
  std::atomic<unsigned> failures{0};
  std::thread faulting([&] {
    std::uint64_t round = 0;
    while (!stop.load()) {
      ++round;
      if (!stable.protect(stable.range(), Access::read)) failures.fetch_add(1);
      for (std::size_t i = 0; i < kPages; ++i)
        store(stable, page_at(stable, i), round, ways().back());
      for (std::size_t i = 0; i < kPages; ++i)
        if (load(stable, page_at(stable, i), ways().back()) != round) failures.fetch_add(1);
    }
  });
  const RegionOptions asked = options(8, FaultKind::write_protected);
  for (unsigned round = 0; round < 120; ++round) {
    FaultLog short_log;
    auto made = Region::create(bytes(Pages{8}), asked);
    if (!made) {
      failures.fetch_add(1);
      break;
    }
    made->on_fault(FaultLog::on_fault, &short_log).value();
    made->protect(made->range(), Access::read).value();
    for (std::size_t i = 0; i < 8; ++i) store(*made, page_at(*made, i), round + 1, ways().back());
    if (short_log.count(FaultKind::write_protected) != (can().per_page ? 8U : 1U))
      failures.fetch_add(1);
  }
  stop.store(true);
  faulting.join();
  EXPECT_EQ(failures.load(), 0U);
  EXPECT_EQ(log.failures.load(), 0);
}

INSTANTIATE_TEST_SUITE_P(Vm, Hammer,
                         testing::ValuesIn(with_backings({Backing::anonymous, Backing::memfd})),
                         test_name);

}  // namespace
}  // namespace pagetrap::conformance
