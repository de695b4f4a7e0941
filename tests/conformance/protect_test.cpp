// PROT1, PROTN, UNPROT: rights of pages, runs and whole regions.
#include <algorithm>

#include "conformance/fixture.hpp"

namespace pagetrap::conformance {
namespace {

constexpr std::size_t kPages = 64;

class WriteProtected : public Conformance {
 protected:
  [[nodiscard]] FaultSet needs() const override { return FaultKind::write_protected; }
  std::string obstacle() override {
    return can().per_page ? "" : "rights of single pages do not exist on this backend";
  }

  /// Writes to every page; exactly those of [first, first + count) may fault, once each.
  void write_everywhere(Region& region, FaultLog& log, std::size_t first, std::size_t count,
                        Way way, std::uint64_t generation) {
    log.reset();
    region.quiesce();
    for (std::size_t i = 0; i < region.range().length.count(); ++i) {
      const unsigned before = log.count(FaultKind::write_protected);
      const bool closed = i >= first && i < first + count;
      EXPECT_EQ(region.page_state(page_at(region, i)),
                closed ? PageState::read : PageState::read_write);
      EXPECT_EQ(load(region, page_at(region, i) + 16, way), stamp(i, generation));
      EXPECT_EQ(log.total(), before);
      store(region, page_at(region, i) + 16, stamp(i, generation + 1), way);
      EXPECT_EQ(log.count(FaultKind::write_protected), before + (closed ? 1 : 0)) << i;
      EXPECT_EQ(load(region, page_at(region, i) + 16, way), stamp(i, generation + 1));
      EXPECT_EQ(load(region, page_at(region, i) + 8, way), stamp(i, 0));
    }
    EXPECT_EQ(log.total(), count);
    EXPECT_EQ(log.writes.load(), count);
    EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
    EXPECT_EQ(log.wrong.load(), 0U);
  }
};

TEST_P(WriteProtected, OnePage) {
  for (const Way way : ways()) {
    SCOPED_TRACE(way);
    FaultLog log;
    Region region = make(kPages, FaultKind::write_protected, &log);
    ASSERT_TRUE(region.valid());
    write_stamps(region);
    EXPECT_EQ(log.total(), 0U);
    region.protect(pages_at(region, 9), Access::read).value();
    write_everywhere(region, log, 9, 1, way, 0);
    if (HasFailure()) return;
  }
}

TEST_P(WriteProtected, RunsOfEveryLength) {
  const Way way = ways().back();
  FaultLog log;
  Region region = make(kPages, FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  std::uint64_t generation = 0;
  for (std::size_t length = 2; length <= 40; ++length) {
    const std::size_t first = length % 23;
    SCOPED_TRACE(testing::Message() << length << " pages from " << first);
    region.quiesce();  // the states are the handlers' until they have returned
    region.protect(pages_at(region, first, length), Access::read).value();
    write_everywhere(region, log, first, length, way, generation++);
    if (HasFailure()) return;
  }
}

TEST_P(WriteProtected, WholeRegion) {
  for (const Way way : ways()) {
    FaultLog log;
    Region region = make(kPages, FaultKind::write_protected, &log);
    ASSERT_TRUE(region.valid());
    write_stamps(region);
    region.protect(region.range(), Access::read).value();
    write_everywhere(region, log, 0, kPages, way, 0);
  }
}

TEST_P(WriteProtected, PagesNobodyEverTouched) {
  for (const Way way : ways()) {
    FaultLog log;
    Region region = make(kPages, FaultKind::write_protected, &log);
    ASSERT_TRUE(region.valid());
    region.protect(region.range(), Access::read).value();
    for (std::size_t i = 0; i < kPages; ++i) {
      if (i % 2 == 0) {
        EXPECT_EQ(load(region, page_at(region, i), way), 0U);
      }
      EXPECT_EQ(log.total(), i) << i;
      store(region, page_at(region, i), i, way);
      EXPECT_EQ(log.count(FaultKind::write_protected), i + 1);
      EXPECT_EQ(load(region, page_at(region, i), way), i);
    }
    EXPECT_EQ(log.total(), kPages);
  }
}

TEST_P(WriteProtected, ScatteredRanges) {
  for (const Way way : ways()) {
    FaultLog log;
    Region region = make(kPages, FaultKind::write_protected, &log);
    ASSERT_TRUE(region.valid());
    write_stamps(region);
    const std::array<PageRange, 4> ranges = {pages_at(region, 50, 3), pages_at(region, 0),
                                             pages_at(region, 7, 4), pages_at(region, 63)};
    region.protect(ranges, Access::read).value();
    for (std::size_t i = 0; i < kPages; ++i) {
      const unsigned before = log.total();
      store(region, page_at(region, i), i, way);
      const bool inside = std::any_of(ranges.begin(), ranges.end(), [&](const PageRange& range) {
        return range.contains(page_at(region, i));
      });
      EXPECT_EQ(log.total(), before + (inside ? 1 : 0)) << i;
    }
    EXPECT_EQ(log.count(FaultKind::write_protected), 9U);
  }
}

TEST_P(WriteProtected, SpanStopsAtTheFirstError) {
  FaultLog log;
  Region region = make(8, FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  const std::array<PageRange, 3> ranges = {
      pages_at(region, 1), PageRange{region.range().end(), Pages{1}}, pages_at(region, 3)};
  const auto done = region.protect(ranges, Access::read);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().number, EINVAL);
  EXPECT_EQ(done.error().range, ranges[1]);
  EXPECT_EQ(region.page_state(page_at(region, 1)), PageState::read);
  EXPECT_EQ(region.page_state(page_at(region, 3)), PageState::read_write);
}

TEST_P(WriteProtected, UnprotectIsIdempotent) {
  for (const Way way : ways()) {
    FaultLog log;
    Region region = make(kPages, FaultKind::write_protected, &log);
    ASSERT_TRUE(region.valid());
    write_stamps(region);
    region.unprotect(region.range()).value();  // was never protected
    region.protect(pages_at(region, 10, 20), Access::read).value();
    region.unprotect(pages_at(region, 5, 10)).value();  // half of it is protected
    region.unprotect(pages_at(region, 5, 10)).value();
    for (std::size_t i = 0; i < kPages; ++i) {
      const bool closed = i >= 15 && i < 30;
      const unsigned before = log.total();
      store(region, page_at(region, i) + 8, i, way);
      EXPECT_EQ(log.total(), before + (closed ? 1 : 0)) << i;
      EXPECT_EQ(load(region, page_at(region, i), way), stamp(i));
    }
    region.unprotect(region.range()).value();
    EXPECT_EQ(log.total(), 15U);
  }
}

TEST_P(WriteProtected, ProtectIsIdempotentAndCanBeTakenBack) {
  for (const Way way : ways()) {
    FaultLog log;
    Region region = make(kPages, FaultKind::write_protected, &log);
    ASSERT_TRUE(region.valid());
    write_stamps(region);
    region.protect(region.range(), Access::read).value();
    region.protect(region.range(), Access::read).value();
    region.protect(pages_at(region, 0, 32), Access::read_write).value();
    for (std::size_t i = 0; i < kPages; ++i) store(region, page_at(region, i), i, way);
    EXPECT_EQ(log.count(FaultKind::write_protected), 32U);
  }
}

TEST_P(WriteProtected, ManyRoundsOverRandomRuns) {
  Random random(19910408);
  const Way way = ways().back();
  FaultLog log;
  Region region = make(kPages, FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  std::array<bool, kPages> closed{};
  for (unsigned round = 0; round < 600; ++round) {
    const std::size_t first = random.below(kPages);
    const std::size_t length = 1 + random.below(kPages - first);
    const bool close = random.below(2) == 0;
    const PageRange run = pages_at(region, first, length);
    (close ? region.protect(run, Access::read) : region.unprotect(run)).value();
    std::fill_n(closed.begin() + static_cast<std::ptrdiff_t>(first), length, close);
    for (unsigned access = 0; access < 8; ++access) {
      const std::size_t i = random.below(kPages);
      const unsigned before = log.total();
      store(region, page_at(region, i) + 8, round, way);
      ASSERT_EQ(log.total(), before + (closed[i] ? 1 : 0)) << "page " << i << ", round " << round;
      closed[i] = false;
    }
  }
  EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
}

INSTANTIATE_TEST_SUITE_P(Vm, WriteProtected,
                         testing::ValuesIn(with_backends({BackendId::uffd_inline,
                                                          BackendId::uffd_thread,
                                                          BackendId::mprotect, BackendId::null})),
                         test_name);

class NoAccess : public WriteProtected {
 protected:
  [[nodiscard]] FaultSet needs() const override { return FaultKind::no_access; }
};

TEST_P(NoAccess, ReadsAndWritesFault) {
  for (const Way way : ways()) {
    for (const bool writes : {false, true}) {
      SCOPED_TRACE(testing::Message() << way << (writes ? " writes" : " reads"));
      FaultLog log;
      Region region = make(kPages, FaultKind::no_access, &log);
      ASSERT_TRUE(region.valid());
      write_stamps(region);
      region.protect(pages_at(region, 5, 40), Access::none).value();
      for (std::size_t i = 0; i < kPages; ++i) {
        const bool closed = i >= 5 && i < 45;
        EXPECT_EQ(region.page_state(page_at(region, i)),
                  closed ? PageState::none : PageState::read_write);
        const unsigned before = log.total();
        if (writes) {
          store(region, page_at(region, i) + 8, i, way);
        } else {
          EXPECT_EQ(load(region, page_at(region, i), way), stamp(i));
        }
        EXPECT_EQ(log.count(FaultKind::no_access), before + (closed ? 1 : 0)) << i;
        EXPECT_EQ(load(region, page_at(region, i), way), stamp(i));
      }
      EXPECT_EQ(log.total(), 40U);
      EXPECT_EQ(log.writes.load(), writes ? 40U : 0U);
      EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
    }
  }
}

TEST_P(NoAccess, PagesNobodyEverTouched) {
  for (const Way way : ways()) {
    SCOPED_TRACE(way);
    FaultLog log;
    Region region = make(8, FaultKind::no_access, &log);
    ASSERT_TRUE(region.valid());
    region.protect(region.range(), Access::none).value();
    for (std::size_t i = 0; i < 8; ++i) {
      if (i % 2 == 0) {
        EXPECT_EQ(load(region, page_at(region, i), way), 0U);
      } else {
        store(region, page_at(region, i), i, way);
      }
      EXPECT_EQ(log.count(FaultKind::no_access), i + 1);
    }
    EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
  }
}

TEST_P(NoAccess, UntouchedPagesAreOpenedAgain) {
  FaultLog log;
  Region region = make(8, FaultKind::no_access, &log);
  ASSERT_TRUE(region.valid());
  region.protect(region.range(), Access::none).value();
  const auto done = region.unprotect(region.range());
  ASSERT_TRUE(done) << describe(done.error());
  for (std::size_t i = 0; i < 8; ++i)
    EXPECT_EQ(load(region, page_at(region, i), ways().back()), 0U);
  EXPECT_EQ(log.total(), 0U);
}

TEST_P(NoAccess, GivesWayToReadOnlyAndBack) {
  const FaultSet both = FaultKind::no_access | FaultKind::write_protected;
  if (!can_raise(both)) GTEST_SKIP() << "cannot raise both kinds";
  if (is_uffd() && !has_feature("uffd.wp_unpopulated"))
    GTEST_SKIP() << "UFFDIO_CONTINUE cannot protect what it maps before Linux 6.4";
  for (const Way way : ways()) {
    FaultLog log;
    Region region = make(kPages, both, &log);
    ASSERT_TRUE(region.valid());
    write_stamps(region);
    region.protect(region.range(), Access::none).value();
    region.protect(region.range(), Access::read).value();
    for (std::size_t i = 0; i < kPages; ++i)
      EXPECT_EQ(load(region, page_at(region, i), way), stamp(i));
    EXPECT_EQ(log.total(), 0U);
    region.protect(pages_at(region, 0, 32), Access::none).value();
    for (std::size_t i = 0; i < kPages; ++i) store(region, page_at(region, i), i, way);
    EXPECT_EQ(log.count(FaultKind::no_access), 32U);
    EXPECT_EQ(log.count(FaultKind::write_protected), 32U);
    EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
  }
}

INSTANTIATE_TEST_SUITE_P(Vm, NoAccess,
                         testing::ValuesIn(with_backends({BackendId::uffd_inline,
                                                          BackendId::uffd_thread,
                                                          BackendId::mprotect, BackendId::null})),
                         test_name);

// What also a backend without rights of single pages can do.
class WholeRegion : public Conformance {
 protected:
  [[nodiscard]] FaultSet needs() const override { return FaultKind::write_protected; }
};

TEST_P(WholeRegion, WriteProtects) {
  for (const Way way : ways()) {
    FaultLog log;
    Region region = make(kPages, FaultKind::write_protected, &log);
    ASSERT_TRUE(region.valid());
    write_stamps(region);
    region.protect(region.range(), Access::read).value();
    for (std::size_t i = 0; i < kPages; ++i)
      EXPECT_EQ(load(region, page_at(region, i), way), stamp(i));
    EXPECT_EQ(log.total(), 0U);
    for (std::size_t i = 0; i < kPages; ++i) store(region, page_at(region, i), i, way);
    EXPECT_EQ(log.count(FaultKind::write_protected), can().per_page ? kPages : 1);
    for (std::size_t i = 0; i < kPages; ++i) EXPECT_EQ(load(region, page_at(region, i), way), i);
    EXPECT_EQ(log.failures.load(), 0);
  }
}

TEST_P(WholeRegion, ForbidsEverything) {
  if (!can_raise(FaultKind::no_access)) GTEST_SKIP() << "cannot raise no_access";
  for (const Way way : ways()) {
    FaultLog log;
    Region region = make(kPages, FaultKind::no_access, &log);
    ASSERT_TRUE(region.valid());
    write_stamps(region);
    region.protect(region.range(), Access::none).value();
    for (std::size_t i = 0; i < kPages; ++i)
      EXPECT_EQ(load(region, page_at(region, i), way), stamp(i));
    EXPECT_EQ(log.count(FaultKind::no_access), can().per_page ? kPages : 1);
    EXPECT_EQ(log.failures.load(), 0);
  }
}

TEST_P(WholeRegion, RefusesPartsOfItWhereItMust) {
  if (can().per_page) GTEST_SKIP() << "this backend has rights of single pages";
  Region region = make(kPages, FaultKind::write_protected);
  ASSERT_TRUE(region.valid());
  const auto done = region.protect(pages_at(region, 3), Access::read);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().number, ENOTSUP);
  const auto filled = region.supply(pages_at(region, 3), nullptr, Supply::zero);
  ASSERT_FALSE(filled);
  EXPECT_EQ(filled.error().number, ENOTSUP);
  store(region, page_at(region, 3), 1, Way::plain);
}

INSTANTIATE_TEST_SUITE_P(Vm, WholeRegion, testing::ValuesIn(all_combinations()), test_name);

}  // namespace
}  // namespace pagetrap::conformance
