// supply, evict, discard, guard, page_state: contents of pages.
#include <sys/mman.h>

#include "conformance/fixture.hpp"

namespace pagetrap::conformance {
namespace {

constexpr std::size_t kPages = 16;

const std::vector<BackendId> kPerPage = {BackendId::uffd_inline, BackendId::uffd_thread,
                                         BackendId::mprotect, BackendId::null};

class SupplyPages : public Conformance {
 protected:
  [[nodiscard]] FaultSet needs() const override { return FaultKind::missing; }
};

TEST_P(SupplyPages, FillsOnlyWhatIsNotThere) {
  for (const Supply how : {Supply::copy, Supply::move, Supply::zero}) {
    SCOPED_TRACE(static_cast<int>(how));
    FaultLog log;
    Region region = make(kPages, FaultKind::missing, &log);
    ASSERT_TRUE(region.valid());
    const Pattern first(kPages, 1);
    EXPECT_EQ(region.supply(pages_at(region, 2), first.page(2), Supply::copy).value(), Pages{1});
    EXPECT_EQ(region.supply(pages_at(region, 5, 3), first.page(5), Supply::copy).value(), Pages{3});
    const Pattern second(kPages, 2);
    const auto filled = region.supply(region.range(), second.data(), how);
    ASSERT_TRUE(filled) << describe(filled.error());
    EXPECT_EQ(*filled, Pages{kPages - 4});
    for (std::size_t i = 0; i < kPages; ++i) {
      const bool old = i == 2 || (i >= 5 && i < 8);
      const std::uint64_t fresh = how == Supply::zero ? 0 : stamp(i, 2);
      EXPECT_TRUE(page_is(page_at(region, i), old ? stamp(i, 1) : fresh)) << i;
      EXPECT_EQ(region.page_state(page_at(region, i)), PageState::read_write);
    }
    EXPECT_EQ(log.total(), 0U);
  }
}

TEST_P(SupplyPages, AgainDoesNothing) {
  Region region = make(kPages, FaultKind::missing);
  ASSERT_TRUE(region.valid());
  const Pattern first(kPages, 1);
  const Pattern second(kPages, 2);
  EXPECT_EQ(region.supply(region.range(), first.data(), Supply::copy).value(), Pages{kPages});
  for (const Supply how : {Supply::copy, Supply::move, Supply::zero})
    EXPECT_EQ(region.supply(region.range(), second.data(), how).value(), Pages{0});
  for (std::size_t i = 0; i < kPages; ++i) {
    EXPECT_TRUE(page_is(page_at(region, i), stamp(i, 1)));
    EXPECT_TRUE(page_is(second.page(i), stamp(i, 2)));  // not moved away either
  }
}

TEST_P(SupplyPages, KeepsTheRightsOfWhatIsThere) {
  const FaultSet both = FaultKind::missing | FaultKind::write_protected;
  if (!can_raise(both)) GTEST_SKIP() << "cannot raise both kinds";
  FaultLog log;
  Region region = make(kPages, both, &log);
  ASSERT_TRUE(region.valid());
  const Pattern source(kPages);
  region.supply(pages_at(region, 0, 4), source.data(), Supply::copy, Access::read).value();
  EXPECT_EQ(region.supply(region.range(), source.data(), Supply::copy).value(), Pages{kPages - 4});
  for (std::size_t i = 0; i < kPages; ++i) {
    EXPECT_EQ(region.page_state(page_at(region, i)),
              i < 4 ? PageState::read : PageState::read_write);
    store(region, page_at(region, i), i, ways().back());
  }
  EXPECT_EQ(log.count(FaultKind::write_protected), 4U);
}

TEST_P(SupplyPages, ServesLongRuns) {
  constexpr std::size_t kMany = 1200;  // more than any internal batch
  for (const Supply how : {Supply::copy, Supply::move, Supply::zero}) {
    Region region = make(kMany, FaultKind::missing);
    ASSERT_TRUE(region.valid());
    const Pattern source(kMany);
    region.supply(pages_at(region, 700), source.page(700), Supply::copy).value();
    const auto filled = region.supply(region.range(), source.data(), how);
    ASSERT_TRUE(filled) << describe(filled.error());
    EXPECT_EQ(*filled, Pages{kMany - 1});
    for (std::size_t i = 0; i < kMany; ++i) {
      const std::uint64_t fresh = how == Supply::zero ? 0 : stamp(i);
      ASSERT_TRUE(page_is(page_at(region, i), i == 700 ? stamp(i) : fresh)) << i;
    }
  }
}

TEST_P(SupplyPages, UnprotectGivesZeroesToMissingPages) {
  FaultLog log;
  Region region = make(kPages, FaultKind::missing, &log);
  ASSERT_TRUE(region.valid());
  const Pattern source(kPages);
  region.supply(pages_at(region, 3), source.page(3), Supply::copy).value();
  region.unprotect(region.range()).value();
  region.unprotect(region.range()).value();
  for (std::size_t i = 0; i < kPages; ++i) {
    EXPECT_TRUE(page_is(page_at(region, i), i == 3 ? stamp(3) : 0)) << i;
    store(region, page_at(region, i), i, ways().back());
  }
  EXPECT_EQ(log.total(), 0U);
}

// A buffer that nobody ever wrote is zeroes, also to a kernel that moves its pages.
TEST_P(SupplyPages, MovesFromAnUntouchedBuffer) {
  sys::Mapping::Request request;
  request.size_bytes = bytes(Pages{kPages});
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  auto buffer = sys::Mapping::create(request);
  ASSERT_TRUE(buffer);
  fill_page(buffer->data() + bytes(Pages{3}), 33);
  Region region = make(kPages, FaultKind::missing);  // without a handler: nothing may be missing
  ASSERT_TRUE(region.valid());
  const auto filled = region.supply(region.range(), buffer->data(), Supply::move);
  ASSERT_TRUE(filled) << describe(filled.error());
  EXPECT_EQ(*filled, Pages{kPages});
  const Ending ending = in_child([&] {
    for (std::size_t i = 0; i < kPages; ++i)
      CHILD_CHECK(load(region, page_at(region, i), ways().back()) == (i == 3 ? 33 : 0));
    return 0;
  });
  EXPECT_EQ(ending.status, 0) << "signal " << ending.signal << ' ' << ending.output;
}

TEST_P(SupplyPages, RefusesWhatMakesNoSense) {
  Region region = make(kPages, FaultKind::missing);
  ASSERT_TRUE(region.valid());
  const Pattern source(2);
  const auto number = [](const Result<Pages>& result) {
    return result ? 0 : result.error().number;
  };
  const PageRange page = pages_at(region, 0);
  EXPECT_EQ(number(region.supply(page, nullptr, Supply::copy)), EINVAL);
  EXPECT_EQ(number(region.supply(page, nullptr, Supply::move)), EINVAL);
  EXPECT_EQ(number(region.supply(page, source.data() + 8, Supply::move)), EINVAL);
  EXPECT_EQ(number(region.supply(page, source.data(), Supply::copy, Access::none)), EINVAL);
  EXPECT_EQ(number(region.supply({region.range().end(), Pages{1}}, source.data(), Supply::copy)),
            EINVAL);
  if (!is_shared()) {
    EXPECT_EQ(number(region.supply(page, nullptr, Supply::publish)), ENOTSUP);
  }
  EXPECT_EQ(region.page_state(page.base), PageState::missing);
}

TEST_P(SupplyPages, CopiesFromAnUnalignedBuffer) {
  Region region = make(kPages, FaultKind::missing);
  ASSERT_TRUE(region.valid());
  Pattern source(3);
  fill_page(source.page(0), 11);
  fill_page(source.page(1), 11);
  EXPECT_EQ(region.supply(pages_at(region, 1), source.data() + 24, Supply::copy).value(), Pages{1});
  EXPECT_TRUE(page_is(page_at(region, 1), 11));
}

INSTANTIATE_TEST_SUITE_P(Vm, SupplyPages, testing::ValuesIn(with_backends(kPerPage)), test_name);

class Evict : public Conformance {};

TEST_P(Evict, DropsPrivateContents) {
  if (is_shared()) GTEST_SKIP() << "the backing keeps them";
  for (const Way way : ways()) {
    FaultLog log;
    Region region = make(kPages, FaultKind::write_protected, &log);
    ASSERT_TRUE(region.valid());
    write_stamps(region);
    region.evict(pages_at(region, 4, 3)).value();
    for (std::size_t i = 0; i < kPages; ++i)
      EXPECT_EQ(load(region, page_at(region, i), way), i >= 4 && i < 7 ? 0 : stamp(i)) << i;
    EXPECT_EQ(log.total(), 0U);  // the options have no missing faults: zeroes
  }
}

TEST_P(Evict, OfPrivatePagesFaultsMissing) {
  if (is_shared()) GTEST_SKIP() << "the backing keeps them";
  if (!can_raise(FaultKind::missing)) GTEST_SKIP() << "cannot raise missing faults";
  for (const Way way : ways()) {
    const Pattern source(kPages, 4);
    FaultLog log;
    log.source = source.data();
    Region region = make(kPages, FaultKind::missing, &log);
    ASSERT_TRUE(region.valid());
    region.unprotect(region.range()).value();
    write_stamps(region);
    for (unsigned round = 1; round < 4; ++round) {
      region.evict(pages_at(region, 4, 3)).value();
      EXPECT_EQ(region.page_state(page_at(region, 5)), PageState::missing);
      for (std::size_t i = 0; i < kPages; ++i)
        EXPECT_EQ(load(region, page_at(region, i), way), i >= 4 && i < 7 ? stamp(i, 4) : stamp(i));
      EXPECT_EQ(log.count(FaultKind::missing), 3 * round);
    }
  }
}

// Only anonymous memory loses its contents (region.hpp), whatever the faults asked for.
TEST_P(Evict, KeepsSharedContentsWithoutMinorFaultsToo) {
  if (!is_shared()) GTEST_SKIP() << "private memory";
  FaultLog log;
  Region region = make(kPages, FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  region.evict(pages_at(region, 4, 3)).value();
  for (std::size_t i = 0; i < kPages; ++i)
    EXPECT_EQ(load(region, page_at(region, i), ways().back()), stamp(i)) << i;
}

INSTANTIATE_TEST_SUITE_P(Vm, Evict, testing::ValuesIn(all_combinations()), test_name);

class Discard : public Conformance {};

TEST_P(Discard, LeavesZeroes) {
  for (const Way way : ways()) {
    FaultLog log;
    Region region = make(kPages, FaultKind::write_protected, &log);
    ASSERT_TRUE(region.valid());
    write_stamps(region);
    region.discard(pages_at(region, 4, 3)).value();
    for (std::size_t i = 0; i < kPages; ++i)
      EXPECT_EQ(load(region, page_at(region, i), way), i >= 4 && i < 7 ? 0 : stamp(i)) << i;
    for (std::size_t i = 0; i < kPages; ++i) store(region, page_at(region, i), 1, way);
    EXPECT_EQ(log.total(), 0U);
  }
}

TEST_P(Discard, FaultsMissingWhereAskedFor) {
  if (!can_raise(FaultKind::missing)) GTEST_SKIP() << "cannot raise missing faults";
  for (const Way way : ways()) {
    const Pattern source(kPages, 4);
    FaultLog log;
    log.source = source.data();
    Region region = make(kPages, FaultKind::missing, &log);
    ASSERT_TRUE(region.valid());
    region.unprotect(region.range()).value();
    write_stamps(region);
    region.discard(pages_at(region, 4, 3)).value();
    for (std::size_t i = 0; i < kPages; ++i)
      EXPECT_EQ(load(region, page_at(region, i), way), i >= 4 && i < 7 ? stamp(i, 4) : stamp(i));
    EXPECT_EQ(log.count(FaultKind::missing), 3U);
    EXPECT_EQ(log.total(), 3U);
  }
}

// A protected page that is discarded is plain memory after, not a trap left behind.
TEST_P(Discard, OfProtectedPagesOpensThem) {
  if (!can().per_page) GTEST_SKIP() << "rights of single pages do not exist on this backend";
  for (const Way way : ways()) {
    FaultLog log;
    Region region = make(kPages, FaultKind::write_protected, &log);
    ASSERT_TRUE(region.valid());
    write_stamps(region);
    region.protect(region.range(), Access::read).value();
    region.discard(pages_at(region, 0, 4)).value();
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(region.page_state(page_at(region, i)), PageState::read_write);
      EXPECT_EQ(load(region, page_at(region, i), way), 0U);
      store(region, page_at(region, i), 5, way);
    }
    EXPECT_EQ(log.total(), 0U);
    EXPECT_EQ(region.page_state(page_at(region, 4)), PageState::read);
  }
}

INSTANTIATE_TEST_SUITE_P(Vm, Discard, testing::ValuesIn(all_combinations()), test_name);

class Guard : public Conformance {
 protected:
  std::string obstacle() override {
    return backend() == BackendId::pkey ? "guards are independent of keys" : "";
  }
};

TEST_P(Guard, EveryAccessFaultsUntilItIsUndone) {
  for (const Way way : ways()) {
    for (const bool writes : {false, true}) {
      SCOPED_TRACE(testing::Message() << way << (writes ? " writes" : " reads"));
      FaultLog log;
      log.open_by_unguard = true;
      Region region = make(kPages, FaultKind::write_protected, &log);
      ASSERT_TRUE(region.valid());
      write_stamps(region);
      region.guard(pages_at(region, 3, 2)).value();
      for (std::size_t i = 0; i < kPages; ++i) {
        const bool guarded = i == 3 || i == 4;
        EXPECT_EQ(region.page_state(page_at(region, i)),
                  guarded ? PageState::guard : PageState::read_write);
        const unsigned before = log.total();
        if (writes) store(region, page_at(region, i) + 8, 9, way);
        EXPECT_EQ(load(region, page_at(region, i), way), guarded ? 0 : stamp(i)) << i;
        EXPECT_EQ(log.count(FaultKind::no_access), before + (guarded ? 1 : 0)) << i;
      }
      EXPECT_EQ(log.total(), 2U);
      EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
    }
  }
}

TEST_P(Guard, DropsContentsAndLeavesZeroes) {
  FaultLog log;
  Region region = make(kPages, FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  region.guard(pages_at(region, 3, 2)).value();
  region.guard(pages_at(region, 3, 2)).value();
  region.unguard(pages_at(region, 3, 2)).value();
  region.unguard(pages_at(region, 3, 2)).value();
  for (std::size_t i = 0; i < kPages; ++i) {
    EXPECT_EQ(region.page_state(page_at(region, i)), PageState::read_write);
    EXPECT_EQ(load(region, page_at(region, i), ways().back()), i == 3 || i == 4 ? 0 : stamp(i));
    store(region, page_at(region, i), 1, ways().back());
  }
  EXPECT_EQ(log.total(), 0U);
}

TEST_P(Guard, LeavesZeroesInARegionWithMissingFaultsToo) {
  if (!can_raise(FaultKind::missing)) GTEST_SKIP() << "cannot raise missing faults";
  const Pattern source(kPages, 7);
  FaultLog log;
  log.source = source.data();
  Region region = make(kPages, FaultKind::missing, &log);
  ASSERT_TRUE(region.valid());
  region.guard(pages_at(region, 3)).value();
  region.unguard(pages_at(region, 3)).value();
  EXPECT_EQ(region.page_state(page_at(region, 3)), PageState::read_write);
  const Ending ending = in_child(
      [&] {
        CHILD_CHECK(load(region, page_at(region, 3), ways().back()) == 0);
        CHILD_CHECK(log.total() == 0);
        return 0;
      },
      5);
  EXPECT_EQ(ending.status, 0) << "signal " << ending.signal << ' ' << ending.output;
}

TEST_P(Guard, WithoutAHandlerIsAnError) {
  const Ending ending = in_child([&] {
    RegionOptions plain;
    plain.backend = backend();
    plain.backing = backing() == Backing::file ? Backing::memfd : backing();
    auto region = Region::create(bytes(Pages{4}), plain);
    CHILD_CHECK(region);
    CHILD_CHECK(region->guard(pages_at(*region, 1)));
    store(*region, page_at(*region, 0), 1, ways().back());
    if (is_null()) return region->touch(page_at(*region, 1)) ? 1 : 99;
    load(*region, page_at(*region, 1), Way::plain);
    return 1;
  });
  if (is_null()) {
    EXPECT_EQ(ending.status, 99) << ending.output;
  } else {
    EXPECT_TRUE(ending.died_of_fault()) << ending.status << ' ' << ending.output;
  }
}

INSTANTIATE_TEST_SUITE_P(Vm, Guard, testing::ValuesIn(with_backends(kPerPage)), test_name);

class States : public Conformance {
 protected:
  std::string obstacle() override {
    return can().per_page ? "" : "states of single pages do not exist on this backend";
  }
};

TEST_P(States, FollowEveryOperation) {
  FaultSet faults = FaultKind::write_protected;
  for (const FaultKind kind : {FaultKind::missing, FaultKind::minor, FaultKind::no_access})
    if (can_raise(faults | kind)) faults = faults | kind;
  Region region = make(kPages, faults);
  ASSERT_TRUE(region.valid());
  const auto state = [&](std::size_t i) { return region.page_state(page_at(region, i)); };
  const auto others_unchanged = [&] { return state(3) == state(15) && state(5) == state(15); };
  const PageRange page = pages_at(region, 4);
  const Pattern source(1);
  if (faults.has(FaultKind::missing)) {
    EXPECT_EQ(state(4), PageState::missing);
    region.supply(page, source.data(), Supply::copy, Access::read).value();
    EXPECT_EQ(state(4), PageState::read);
  }
  region.unprotect(page).value();
  EXPECT_EQ(state(4), PageState::read_write);
  region.protect(page, Access::read).value();
  EXPECT_EQ(state(4), PageState::read);
  EXPECT_TRUE(others_unchanged());
  if (faults.has(FaultKind::no_access)) {
    region.protect(page, Access::none).value();
    EXPECT_EQ(state(4), PageState::none);
    region.unprotect(page).value();
  }
  if (faults.has(FaultKind::minor)) {
    region.evict(page).value();
    EXPECT_EQ(state(4), PageState::evicted);
    region.supply(page, nullptr, Supply::publish).value();
    EXPECT_EQ(state(4), PageState::read_write);
  }
  region.discard(page).value();
  EXPECT_EQ(state(4), faults.has(FaultKind::missing) ? PageState::missing : PageState::read_write);
  region.guard(page).value();
  EXPECT_EQ(state(4), PageState::guard);
  region.unguard(page).value();
  EXPECT_EQ(state(4), PageState::read_write);
  EXPECT_TRUE(others_unchanged());
  EXPECT_EQ(region.page_state(region.data() - 1), PageState::none);
  EXPECT_EQ(region.page_state(region.range().end()), PageState::none);
  EXPECT_EQ(region.page_state(&region), PageState::none);
}

INSTANTIATE_TEST_SUITE_P(Vm, States, testing::ValuesIn(all_combinations()), test_name);

}  // namespace
}  // namespace pagetrap::conformance
