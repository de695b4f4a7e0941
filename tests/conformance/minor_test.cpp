// Minor faults: the contents are in the backing, this view does not map them. MAP2 fills them
// through a second view and publishes whole pages.
#include <thread>

#include "conformance/fixture.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::conformance {
namespace {

constexpr std::size_t kPages = 48;

class Minor : public Conformance {
 protected:
  [[nodiscard]] FaultSet needs() const override { return FaultKind::minor; }

  static void fill_through(const View& view, const Region& region, std::uint64_t generation) {
    for (std::size_t i = 0; i < region.range().length.count(); ++i)
      fill_page(view.at(page_at(region, i)), stamp(i, generation));
  }
};

TEST_P(Minor, PagesFilledThroughAViewArePublished) {
  for (const Way way : ways()) {
    SCOPED_TRACE(way);
    FaultLog log;
    Region region = make(kPages, FaultKind::minor, &log);
    ASSERT_TRUE(region.valid());
    const View view = region.map_twice(Access::read_write).value();
    fill_through(view, region, 0);
    for (std::size_t i = 0; i < kPages; ++i) {
      EXPECT_EQ(region.page_state(page_at(region, i)), PageState::evicted);
      EXPECT_EQ(load(region, page_at(region, i), way), stamp(i));
      EXPECT_TRUE(page_is(page_at(region, i), stamp(i)));
      EXPECT_EQ(log.count(FaultKind::minor), i + 1);
    }
    region.quiesce();  // a handler thread may still be on its way out
    EXPECT_EQ(log.total(), kPages);
    EXPECT_EQ(log.filled.load(), kPages);
    EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
    EXPECT_EQ(log.wrong.load(), 0U);
  }
}

TEST_P(Minor, EvictionKeepsContents) {
  for (const Way way : ways()) {
    SCOPED_TRACE(way);
    FaultLog log;
    Region region = make(kPages, FaultKind::minor, &log);
    ASSERT_TRUE(region.valid());
    const View view = region.map_twice(Access::read_write).value();
    fill_through(view, region, 0);
    for (unsigned round = 0; round < 3; ++round) {
      for (std::size_t i = 0; i < kPages; ++i) {
        EXPECT_EQ(load(region, page_at(region, i), way), stamp(i, round));
        store(region, page_at(region, i), 0, way);
        fill_page(page_at(region, i), stamp(i, round + 1));
      }
      EXPECT_EQ(log.count(FaultKind::minor), kPages * (round + 1));
      region.quiesce();
      region.evict(region.range()).value();
      for (std::size_t i = 0; i < kPages; ++i) {
        EXPECT_EQ(region.page_state(page_at(region, i)), PageState::evicted);
        EXPECT_TRUE(page_is(view.at(page_at(region, i)), stamp(i, round + 1)));
      }
    }
    EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
  }
}

TEST_P(Minor, UnprotectMapsEvictedPages) {
  FaultLog log;
  Region region = make(kPages, FaultKind::minor, &log);
  ASSERT_TRUE(region.valid());
  const View view = region.map_twice(Access::read_write).value();
  fill_through(view, region, 3);
  region.unprotect(pages_at(region, 4, 20)).value();
  for (std::size_t i = 4; i < 24; ++i)
    EXPECT_EQ(load(region, page_at(region, i), ways().back()), stamp(i, 3));
  EXPECT_EQ(log.total(), 0U);
}

TEST_P(Minor, IsToldFromMissing) {
  const FaultSet both = FaultKind::minor | FaultKind::missing;
  if (!can_raise(both)) GTEST_SKIP() << "cannot raise both kinds";
  if (backing() == Backing::file) GTEST_SKIP() << "a page of a file is always in its backing";
  for (const Way way : ways()) {
    SCOPED_TRACE(way);
    const Pattern source(kPages, 9);
    FaultLog log;
    log.source = source.data();
    Region region = make(kPages, both, &log);
    ASSERT_TRUE(region.valid());
    const View view = region.map_twice(Access::read_write).value();
    for (std::size_t i = 0; i < kPages; i += 3) fill_page(view.at(page_at(region, i)), stamp(i));
    for (std::size_t i = 0; i < kPages; ++i)
      EXPECT_EQ(load(region, page_at(region, i), way), i % 3 == 0 ? stamp(i) : stamp(i, 9)) << i;
    EXPECT_EQ(log.count(FaultKind::minor), kPages / 3);
    EXPECT_EQ(log.count(FaultKind::missing), kPages - kPages / 3);
    EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
  }
}

TEST_P(Minor, PublishedForReadingFaultsAgainAtTheFirstWrite) {
  const FaultSet both = FaultKind::minor | FaultKind::write_protected;
  if (!can_raise(both)) GTEST_SKIP() << "cannot raise both kinds";
  if (is_uffd() && !has_feature("uffd.wp_unpopulated"))
    GTEST_SKIP() << "UFFDIO_CONTINUE cannot protect what it maps before Linux 6.4";
  for (const Way way : ways()) {
    FaultLog log;
    log.access = Access::read;
    Region region = make(kPages, both, &log);
    ASSERT_TRUE(region.valid());
    const View view = region.map_twice(Access::read_write).value();
    fill_through(view, region, 0);
    for (std::size_t i = 0; i < kPages; ++i) {
      EXPECT_EQ(load(region, page_at(region, i), way), stamp(i));
      region.quiesce();
      EXPECT_EQ(region.page_state(page_at(region, i)), PageState::read);
    }
    for (std::size_t i = 0; i < kPages; ++i) store(region, page_at(region, i), i, way);
    EXPECT_EQ(log.count(FaultKind::minor), kPages);
    EXPECT_EQ(log.count(FaultKind::write_protected), kPages);
    for (std::size_t i = 0; i < kPages; ++i)
      EXPECT_EQ(*reinterpret_cast<std::uint64_t*>(view.at(page_at(region, i))), i);
  }
}

// Evicting a protected page leaves no protection behind: it comes back with the rights it is given.
TEST_P(Minor, EvictionOfAProtectedPageForgetsTheProtection) {
  const FaultSet both = FaultKind::minor | FaultKind::write_protected;
  if (!can_raise(both)) GTEST_SKIP() << "cannot raise both kinds";
  FaultLog log;
  Region region = make(kPages, both, &log);
  ASSERT_TRUE(region.valid());
  const View view = region.map_twice(Access::read_write).value();
  fill_through(view, region, 0);
  region.unprotect(region.range()).value();
  region.protect(region.range(), Access::read).value();
  region.evict(region.range()).value();
  for (std::size_t i = 0; i < kPages; ++i) store(region, page_at(region, i) + 8, i, ways().back());
  EXPECT_EQ(log.count(FaultKind::minor), kPages);
  EXPECT_EQ(log.count(FaultKind::write_protected), 0U);
}

// Fill-then-publish: one of two threads that miss a page fills it word by word through the view,
// and publishes it. Nobody may see a word of it before all are there.
struct SlowPublisher {
  const View* view = nullptr;
  std::uint64_t generation = 0;
  std::array<std::atomic<bool>, kPages> taken{};
  std::atomic<int> failures{0};

  static Verdict on_fault(void* self, const Fault& fault) noexcept {
    auto& me = *static_cast<SlowPublisher*>(self);
    const std::size_t index = index_in(*fault.region, fault.page.base);
    if (me.taken[index].exchange(true)) {
      sys::yield();
      return Verdict::retry;
    }
    const std::uint64_t value = stamp(index, me.generation);
    std::byte* const page = me.view->at(fault.page.base);
    for (std::size_t at = 0; at < page_size(); at += 8) {
      if (at % 1024 == 0) sys::yield();
      *reinterpret_cast<std::uint64_t*>(page + at) = value;
    }
    if (fault.region->supply(fault.page, nullptr, Supply::publish)) return Verdict::resolved;
    me.failures.fetch_add(1);
    return Verdict::not_mine;
  }
};

TEST_P(Minor, NobodySeesAHalfFilledPage) {
  // The backing must have every page, or the kernel gives out zeroes without asking.
  RegionOptions asked = options(kPages, FaultKind::minor);
  asked.handler_threads = 2;
  Region region = make_with(kPages, asked);
  ASSERT_TRUE(region.valid());
  const View view = region.map_twice(Access::read_write).value();
  fill_through(view, region, 0);
  SlowPublisher publisher;
  publisher.view = &view;
  region.on_fault(SlowPublisher::on_fault, &publisher).value();
  for (publisher.generation = 1; publisher.generation <= 8; ++publisher.generation) {
    for (auto& taken : publisher.taken) taken.store(false);
    std::atomic<int> ready{0};
    std::atomic<unsigned> torn{0};
    const auto read_all = [&] {
      ready.fetch_add(1);
      while (ready.load() < 2) sys::yield();
      for (std::size_t i = 0; i < kPages; ++i) {
        load(region, page_at(region, i) + 8 * (i % 512), ways().back());
        if (!page_is(page_at(region, i), stamp(i, publisher.generation))) torn.fetch_add(1);
      }
    };
    std::thread one(read_all);
    std::thread two(read_all);
    one.join();
    two.join();
    EXPECT_EQ(torn.load(), 0U);
    region.evict(region.range()).value();
  }
  EXPECT_EQ(publisher.failures.load(), 0);
}

TEST_P(Minor, DiscardDropsTheBackingToo) {
  FaultLog log;
  Region region = make(kPages, FaultKind::minor, &log);
  ASSERT_TRUE(region.valid());
  const View view = region.map_twice(Access::read_write).value();
  fill_through(view, region, 0);
  region.unprotect(region.range()).value();
  region.discard(pages_at(region, 3, 5)).value();
  for (std::size_t i = 0; i < kPages; ++i) {
    const std::uint64_t expected = i >= 3 && i < 8 ? 0 : stamp(i);
    EXPECT_TRUE(page_is(view.at(page_at(region, i)), expected)) << i;
    EXPECT_EQ(load(region, page_at(region, i), ways().back()), expected) << i;
  }
}

// View: rights of its own, and a life of its own.
TEST_P(Minor, ViewIgnoresTheRegionsRightsAndOutlivesIt) {
  View moved;
  {
    FaultLog log;
    Region region = make(4, FaultKind::minor, &log);
    ASSERT_TRUE(region.valid());
    View view = region.map_twice(Access::read_write).value();
    EXPECT_EQ(view.range().length, Pages{4});
    EXPECT_NE(view.data(), region.data());
    fill_through(view, region, 5);
    EXPECT_EQ(log.total(), 0U);
    moved = std::move(view);
    EXPECT_TRUE(view.range().empty());  // NOLINT(bugprone-use-after-move): that is the question
  }
  for (std::size_t i = 0; i < 4; ++i)
    EXPECT_TRUE(page_is(moved.data() + bytes(Pages{i}), stamp(i, 5)));
}

INSTANTIATE_TEST_SUITE_P(Vm, Minor, testing::ValuesIn([] {
                           std::vector<Combination> some;
                           for (const Combination& combination : all_combinations())
                             if (combination.backing != Backing::anonymous &&
                                 combination.backend != BackendId::pkey)
                               some.push_back(combination);
                           return some;
                         }()),
                         test_name);

}  // namespace
}  // namespace pagetrap::conformance
