// fork(): what a child finds, and that it does not disturb its parent.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "conformance/fixture.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::conformance {
namespace {

constexpr std::size_t kPages = 32;

class Fork : public Conformance {
 protected:
  [[nodiscard]] FaultSet needs() const override { return FaultKind::write_protected; }
};

TEST_P(Fork, ProtectedPagesTrapInTheChildAndStayProtectedInTheParent) {
  FaultLog log;
  Region region = make(kPages, FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  region.protect(region.range(), Access::read).value();
  const Ending ending = in_child([&] {
    for (std::size_t i = 0; i < kPages; ++i) {
      CHILD_CHECK(load(region, page_at(region, i), ways().back()) == stamp(i));
      CHILD_CHECK(log.total() == (can().per_page || i == 0 ? i : 1));
      store(region, page_at(region, i) + 8, 1, ways().back());
      CHILD_CHECK(log.count(FaultKind::write_protected) == (can().per_page ? i + 1 : 1));
    }
    CHILD_CHECK(region.protect(region.range(), Access::read));
    store(region, page_at(region, 1), 1, ways().back());
    CHILD_CHECK(log.count(FaultKind::write_protected) == (can().per_page ? kPages + 1 : 2));
    CHILD_CHECK(region.unprotect(region.range()));
    return 0;
  });
  EXPECT_EQ(ending.status, 0) << "signal " << ending.signal << ' ' << ending.output;
  EXPECT_EQ(log.total(), 0U);
  for (std::size_t i = 0; i < kPages; ++i) {
    EXPECT_EQ(load(region, page_at(region, i) + 16, ways().back()), stamp(i));
    if (!is_shared()) {
      EXPECT_EQ(load(region, page_at(region, i) + 8, ways().back()), stamp(i));
    }
    store(region, page_at(region, i), 2, ways().back());
  }
  EXPECT_EQ(log.count(FaultKind::write_protected), can().per_page ? kPages : 1);
}

TEST_P(Fork, OpenPagesStayOpenInTheChild) {
  if (!can().per_page) GTEST_SKIP() << "rights of single pages do not exist on this backend";
  FaultLog log;
  Region region = make(kPages, FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  region.protect(pages_at(region, 8, 8), Access::read).value();
  const Ending ending = in_child([&] {
    for (std::size_t i = 0; i < kPages; ++i) store(region, page_at(region, i), 1, ways().back());
    CHILD_CHECK(log.count(FaultKind::write_protected) == 8);
    CHILD_CHECK(log.total() == 8);
    return 0;
  });
  EXPECT_EQ(ending.status, 0) << "signal " << ending.signal << ' ' << ending.output;
}

TEST_P(Fork, MissingPagesTrapInTheChild) {
  if (!can_raise(FaultKind::missing)) GTEST_SKIP() << "cannot raise missing faults";
  const Pattern source(kPages);
  FaultLog log;
  log.source = source.data();
  Region region = make(kPages, FaultKind::missing, &log);
  ASSERT_TRUE(region.valid());
  for (std::size_t i = 0; i < 4; ++i) load(region, page_at(region, i), ways().back());
  const Ending ending = in_child([&] {
    for (std::size_t i = 0; i < kPages / 2; ++i)
      CHILD_CHECK(load(region, page_at(region, i), ways().back()) == stamp(i));
    CHILD_CHECK(log.count(FaultKind::missing) == kPages / 2);
    store(region, page_at(region, 5), 1, ways().back());
    return 0;
  });
  EXPECT_EQ(ending.status, 0) << "signal " << ending.signal << ' ' << ending.output;
  EXPECT_EQ(log.count(FaultKind::missing), 4U);
  if (is_shared()) return;  // what the child supplied is there for both
  for (std::size_t i = 0; i < kPages; ++i) {
    EXPECT_EQ(region.page_state(page_at(region, i)),
              i < 4 ? PageState::read_write : PageState::missing);
    EXPECT_EQ(load(region, page_at(region, i), ways().back()), stamp(i));
  }
  EXPECT_EQ(log.count(FaultKind::missing), kPages);
}

TEST_P(Fork, ChildMakesRegionsAndChildrenOfItsOwn) {
  FaultLog log;
  Region region = make(kPages, FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  const RegionOptions asked = options(kPages, FaultKind::write_protected);
  const Ending ending = in_child([&] {
    FaultLog own_log;
    auto own = Region::create(bytes(Pages{kPages}), asked);
    CHILD_CHECK(own);
    CHILD_CHECK(own->on_fault(FaultLog::on_fault, &own_log));
    CHILD_CHECK(own->protect(own->range(), Access::read));
    store(*own, page_at(*own, 2), 5, ways().back());
    CHILD_CHECK(own_log.count(FaultKind::write_protected) == 1);
    CHILD_CHECK(region.protect(region.range(), Access::read));
    CHILD_CHECK(own->protect(own->range(), Access::read));
    const Ending grandchild = in_child([&] {
      store(*own, page_at(*own, 3), 6, ways().back());
      CHILD_CHECK(own_log.count(FaultKind::write_protected) == 2);
      store(region, page_at(region, 3), 6, ways().back());
      CHILD_CHECK(log.count(FaultKind::write_protected) == 1);
      return 0;
    });
    CHILD_CHECK(grandchild.status == 0);
    store(region, page_at(region, 3), 6, ways().back());
    CHILD_CHECK(log.count(FaultKind::write_protected) == 1);
    return 0;
  });
  EXPECT_EQ(ending.status, 0) << "signal " << ending.signal << ' ' << ending.output;
  store(region, page_at(region, 3), 6, ways().back());
  EXPECT_EQ(log.total(), 0U);
}

TEST_P(Fork, WhileThreadsFault) {
  if (backend() == BackendId::pkey) GTEST_SKIP() << "protects from one thread only";
  FaultLog log;
  RegionOptions asked = options(kPages, FaultKind::write_protected);
  asked.handler_threads = 2;
  Region region = make_with(kPages, asked, &log);
  ASSERT_TRUE(region.valid());
  std::atomic<bool> stop{false};
  std::atomic<unsigned> failures{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t round = 1; !stop.load(); ++round) {
        for (std::size_t i = t * 8; i < t * 8 + 8; ++i) {
          if (!region.protect(pages_at(region, i), Access::read)) failures.fetch_add(1);
          store(region, page_at(region, i), round, ways().back());
          if (!is_shared() && load(region, page_at(region, i), ways().back()) != round)
            failures.fetch_add(1);
        }
      }
    });
  }
  for (unsigned round = 0; round < 20; ++round) {
    const Ending ending = in_child([&] {
      CHILD_CHECK(region.protect(region.range(), Access::read));
      const unsigned before = log.total();
      for (std::size_t i = 16; i < kPages; ++i) store(region, page_at(region, i), 1, ways().back());
      CHILD_CHECK(log.total() == before + kPages - 16);
      return 0;
    });
    EXPECT_EQ(ending.status, 0) << "signal " << ending.signal << ' ' << ending.output;
    if (HasFailure()) break;
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures.load(), 0U);
  EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
}

TEST_P(Fork, AbsentRegionsAreNotThere) {
  RegionOptions asked = options(kPages, FaultKind::write_protected);
  asked.on_fork = ForkPolicy::absent;
  FaultLog log;
  Region region = make_with(kPages, asked, &log);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  const PageRange range = region.range();
  const Ending ending = in_child([&] {
    unsigned char ignored = 0;
    CHILD_CHECK(::mincore(range.base, page_size(), &ignored) != 0);
    CHILD_CHECK(region.range().empty());
    const auto done = region.protect(range, Access::read);
    CHILD_CHECK(!done && done.error().number == EBADF);
    CHILD_CHECK(!region.touch(range.base));
    // Its addresses are free for others, also when its Region ends.
    void* const other = ::mmap(range.base, page_size(), PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHILD_CHECK(other == range.base);
    { const Region gone(std::move(region)); }
    fill_page(range.base, 4);
    CHILD_CHECK(page_is(range.base, 4));
    return 0;
  });
  EXPECT_EQ(ending.status, 0) << "signal " << ending.signal << ' ' << ending.output;
  EXPECT_EQ(region.range(), range);
  for (std::size_t i = 0; i < kPages; ++i)
    EXPECT_EQ(load(region, page_at(region, i), ways().back()), stamp(i));
}

TEST_P(Fork, AbsentRegionHasNoPageStates) {
  RegionOptions asked = options(kPages, FaultKind::write_protected);
  asked.on_fork = ForkPolicy::absent;
  Region region = make_with(kPages, asked);
  ASSERT_TRUE(region.valid());
  const std::byte* const at = page_at(region, 1);
  const Ending ending = in_child([&] {
    CHILD_CHECK(region.page_state(at) == PageState::none);
    CHILD_CHECK(!region.touch(at, true));
    return 0;
  });
  EXPECT_EQ(ending.status, 0) << "signal " << ending.signal << ' ' << ending.output;
}

INSTANTIATE_TEST_SUITE_P(Vm, Fork, testing::ValuesIn(all_combinations()), test_name);

}  // namespace
}  // namespace pagetrap::conformance
