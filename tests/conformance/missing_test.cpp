// Missing faults: pages without contents, supplied by the handler.
#include <thread>

#include "conformance/fixture.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::conformance {
namespace {

constexpr std::size_t kPages = 48;

class Missing : public Conformance {
 protected:
  [[nodiscard]] FaultSet needs() const override { return FaultKind::missing; }

  /// Reads every page of a new region, each supplied `how`, and looks at contents and counts.
  void read_everything(Supply how, bool zeroes) {
    for (const Way way : ways()) {
      SCOPED_TRACE(way);
      const Pattern source(kPages);
      FaultLog log;
      log.how = how;
      log.source = source.data();
      Region region = make(kPages, FaultKind::missing, &log);
      ASSERT_TRUE(region.valid());
      for (std::size_t i = 0; i < kPages; ++i) {
        EXPECT_EQ(region.page_state(page_at(region, i)), PageState::missing);
        const std::uint64_t expected = zeroes ? 0 : stamp(i);
        EXPECT_EQ(load(region, page_at(region, i) + 64, way), expected) << i;
        EXPECT_TRUE(page_is(page_at(region, i), expected)) << i;
        region.quiesce();  // a handler thread may still be on its way out
        EXPECT_EQ(region.page_state(page_at(region, i)), PageState::read_write);
        EXPECT_EQ(log.count(FaultKind::missing), i + 1);
      }
      // Once there, they stay.
      for (std::size_t i = 0; i < kPages; ++i) load(region, page_at(region, i), way);
      EXPECT_EQ(log.total(), kPages);
      EXPECT_EQ(log.filled.load(), kPages);
      EXPECT_EQ(log.writes.load(), 0U);
      EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
      EXPECT_EQ(log.wrong.load(), 0U);
    }
  }
};

TEST_P(Missing, IsSuppliedByCopy) { read_everything(Supply::copy, false); }
TEST_P(Missing, IsSuppliedByMove) { read_everything(Supply::move, false); }
TEST_P(Missing, IsSuppliedWithZeroes) { read_everything(Supply::zero, true); }

TEST_P(Missing, WriteSeesTheSuppliedRest) {
  for (const Supply how : {Supply::copy, Supply::move, Supply::zero}) {
    for (const Way way : ways()) {
      SCOPED_TRACE(testing::Message() << "supply " << static_cast<int>(how) << ' ' << way);
      const Pattern source(kPages);
      FaultLog log;
      log.how = how;
      log.source = source.data();
      Region region = make(kPages, FaultKind::missing, &log);
      ASSERT_TRUE(region.valid());
      for (std::size_t i = 0; i < kPages; ++i) {
        const std::uint64_t rest = how == Supply::zero ? 0 : stamp(i);
        store(region, page_at(region, i) + 8, 77, way);
        EXPECT_EQ(load(region, page_at(region, i), way), rest) << i;
        EXPECT_EQ(load(region, page_at(region, i) + 8, way), 77U) << i;
        EXPECT_EQ(load(region, page_at(region, i) + page_size() - 8, way), rest) << i;
      }
      EXPECT_EQ(log.count(FaultKind::missing), kPages);
      EXPECT_EQ(log.total(), kPages);
      EXPECT_EQ(log.writes.load(), kPages);
      EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
    }
  }
}

TEST_P(Missing, FaultTellsItsFacts) {
  for (const Way way : ways()) {
    const Pattern source(8);
    FaultLog log;
    log.source = source.data();
    Region region = make(8, FaultKind::missing, &log);
    ASSERT_TRUE(region.valid());
    std::byte* const byte = page_at(region, 5) + 0x128;
    std::thread([&] {
      load(region, byte, way);
      EXPECT_EQ(log.thread.load(), sys::thread_id());
      if (can().faulting_thread) {
        EXPECT_EQ(log.ran_in.load(), sys::thread_id());
      }
      if (can().handler_thread) {
        EXPECT_NE(log.ran_in.load(), sys::thread_id());
      }
    }).join();
    std::byte* const told = log.address.load();
    EXPECT_TRUE(told == byte || told == page_at(region, 5));
    EXPECT_FALSE(log.write.load());
    EXPECT_EQ(log.had_context.load(), can().faulting_thread && !is_null());
    store(region, page_at(region, 6), 1, way);
    EXPECT_TRUE(log.write.load());
    EXPECT_EQ(log.wrong.load(), 0U);
  }
}

TEST_P(Missing, SupplyTouchesNoOtherPage) {
  const Pattern source(kPages);
  FaultLog log;
  log.source = source.data();
  Region region = make(kPages, FaultKind::missing, &log);
  ASSERT_TRUE(region.valid());
  load(region, page_at(region, 7), ways().back());
  region.quiesce();
  for (std::size_t i = 0; i < kPages; ++i)
    EXPECT_EQ(region.page_state(page_at(region, i)),
              i == 7 ? PageState::read_write : PageState::missing);
}

TEST_P(Missing, HandlerMayPrefetchNeighbours) {
  struct Prefetcher {
    const Pattern source{kPages};
    std::atomic<unsigned> faults{0};
    std::atomic<std::size_t> filled{0};
    static Verdict on_fault(void* self, const Fault& fault) noexcept {
      auto& me = *static_cast<Prefetcher*>(self);
      me.faults.fetch_add(1);
      const std::size_t first = index_in(*fault.region, fault.page.base) & ~std::size_t{7};
      const auto done = fault.region->supply(pages_at(*fault.region, first, 8),
                                             me.source.page(first), Supply::copy);
      if (!done) return Verdict::not_mine;
      me.filled.fetch_add(done->count());
      return Verdict::resolved;
    }
  };
  for (const Way way : ways()) {
    Prefetcher prefetcher;
    Region region = make(kPages, FaultKind::missing);
    ASSERT_TRUE(region.valid());
    region.on_fault(Prefetcher::on_fault, &prefetcher).value();
    for (std::size_t i = 0; i < kPages; ++i)
      EXPECT_EQ(load(region, page_at(region, (i * 5) % kPages), way), stamp((i * 5) % kPages));
    region.quiesce();
    EXPECT_EQ(prefetcher.faults.load(), kPages / 8);
    EXPECT_EQ(prefetcher.filled.load(), kPages);
  }
}

TEST_P(Missing, SuppliedForReadingFaultsAgainAtTheFirstWrite) {
  const FaultSet both = FaultKind::missing | FaultKind::write_protected;
  if (!can_raise(both)) GTEST_SKIP() << "cannot raise both kinds";
  for (const Supply how : {Supply::copy, Supply::move, Supply::zero}) {
    for (const Way way : ways()) {
      SCOPED_TRACE(testing::Message() << "supply " << static_cast<int>(how) << ' ' << way);
      const Pattern source(kPages);
      FaultLog log;
      log.how = how;
      log.source = source.data();
      log.access = Access::read;
      Region region = make(kPages, both, &log);
      ASSERT_TRUE(region.valid());
      for (std::size_t i = 0; i < kPages; ++i) {
        const std::uint64_t contents = how == Supply::zero ? 0 : stamp(i);
        EXPECT_EQ(load(region, page_at(region, i), way), contents);
        region.quiesce();
        EXPECT_EQ(region.page_state(page_at(region, i)), PageState::read);
      }
      EXPECT_EQ(log.count(FaultKind::missing), kPages);
      EXPECT_EQ(log.count(FaultKind::write_protected), 0U);
      for (std::size_t i = 0; i < kPages; ++i) store(region, page_at(region, i), i, way);
      EXPECT_EQ(log.count(FaultKind::missing), kPages);
      EXPECT_EQ(log.count(FaultKind::write_protected), kPages);
      for (std::size_t i = 0; i < kPages; ++i) {
        const std::uint64_t contents = how == Supply::zero ? 0 : stamp(i);
        EXPECT_EQ(load(region, page_at(region, i), way), i);
        EXPECT_EQ(load(region, page_at(region, i) + 8, way), contents);
      }
    }
  }
}

// A handler reads another page of its region, which faults in its turn.
TEST_P(Missing, HandlerMayFaultItself) {
  if (can().handler_thread) GTEST_SKIP() << "a handler thread may not touch pages it serves";
  struct Chained {
    const Pattern source{16};
    std::atomic<unsigned> faults{0};
    std::uint64_t sum = 0;
    static Verdict on_fault(void* self, const Fault& fault) noexcept {
      auto& me = *static_cast<Chained*>(self);
      me.faults.fetch_add(1);
      const std::size_t index = index_in(*fault.region, fault.page.base);
      // Page 5 is reached from page 0 through five nested faults.
      if (index < 5) me.sum += load(*fault.region, page_at(*fault.region, index + 1), Way::touch);
      const auto done = fault.region->supply(fault.page, me.source.page(index), Supply::copy);
      return done ? Verdict::resolved : Verdict::not_mine;
    }
  };
  for (const Way way : ways()) {
    Chained chained;
    Region region = make(16, FaultKind::missing);
    ASSERT_TRUE(region.valid());
    region.on_fault(Chained::on_fault, &chained).value();
    EXPECT_EQ(load(region, page_at(region, 0), way), stamp(0));
    EXPECT_EQ(chained.faults.load(), 6U);
    EXPECT_EQ(chained.sum, stamp(1) + stamp(2) + stamp(3) + stamp(4) + stamp(5));
  }
}

INSTANTIATE_TEST_SUITE_P(Vm, Missing,
                         testing::ValuesIn(with_backends({BackendId::uffd_inline,
                                                          BackendId::uffd_thread,
                                                          BackendId::mprotect, BackendId::null})),
                         test_name);

}  // namespace
}  // namespace pagetrap::conformance
