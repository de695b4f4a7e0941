// Many pages dropped in one call, and pages that move out with their contents.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <vector>

#include <gtest/gtest.h>

#include <pagetrap/vm/vm.hpp>

#include "sys/injection.hpp"

namespace pagetrap {
namespace {

constexpr std::size_t kPages = 200;

RegionOptions options_for(BackendId id) {
  return {.faults = FaultKind::missing | FaultKind::write_protected, .backend = id};
}

Verdict supply_sevens(void*, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  alignas(4096) static constexpr std::array<unsigned char, 65536> kSevens{7};
  return fault.region->supply(fault.page, kSevens.data(), Supply::copy) ? Verdict::resolved
                                                                        : Verdict::not_mine;
}

class Batches : public ::testing::TestWithParam<BackendId> {
 protected:
  void SetUp() override {
    if (!capabilities(GetParam(), Backing::anonymous)
             .faults.covers(FaultKind::missing | FaultKind::write_protected))
      GTEST_SKIP() << "not on this machine";
    region_ = Region::create(bytes(Pages{kPages}), options_for(GetParam())).value();
    region_.on_fault(supply_sevens, nullptr).value();
    for (std::size_t i = 0; i < kPages; ++i) at(i) = static_cast<unsigned char>(i + 1);
  }
  [[nodiscard]] PageRange page(std::size_t index, std::size_t count = 1) const {
    return {region_.data() + bytes(Pages{index}), Pages{count}};
  }
  [[nodiscard]] volatile unsigned char& at(std::size_t index) const {
    return *reinterpret_cast<volatile unsigned char*>(page(index).base);
  }
  void drop_every_second() {
    std::vector<PageRange> ranges;
    for (std::size_t i = 0; i < kPages; i += 2) ranges.push_back(page(i));
    ASSERT_TRUE(region_.discard(ranges));
    for (std::size_t i = 0; i < kPages; ++i)
      EXPECT_EQ(at(i), i % 2 == 0 ? 7 : static_cast<unsigned char>(i + 1));
  }
  Region region_;
};

TEST_P(Batches, ScatteredPagesAreDropped) { drop_every_second(); }

TEST_P(Batches, AlsoWhereTheKernelHasNoCallForIt) {
  sys::inject(sys::Call::process_madvise, EINVAL, 0, 1000);
  drop_every_second();
  sys::inject(sys::Call::none, 0);
}

TEST_P(Batches, NoneOrForeignPages) {
  EXPECT_TRUE(region_.discard(std::span<const PageRange>{}));
  const std::array<PageRange, 2> ranges{page(1), PageRange{page(kPages).base, Pages{1}}};
  EXPECT_EQ(region_.discard(ranges).error().number, EINVAL);
  EXPECT_EQ(at(1), 2);
}

INSTANTIATE_TEST_SUITE_P(Backends, Batches,
                         ::testing::Values(BackendId::uffd_inline, BackendId::uffd_thread,
                                           BackendId::mprotect));

class MovingOut : public Batches {};

TEST_P(MovingOut, TakesTheContentsAlong) {
  Region other = Region::create(bytes(Pages{8}), options_for(GetParam())).value();
  const auto moved = region_.move_out(page(10, 4), other, {other.data(), Pages{4}});
  if (!moved && moved.error().number == ENOTSUP) GTEST_SKIP() << "before Linux 6.8";
  ASSERT_TRUE(moved) << describe(moved.error());
  EXPECT_EQ(moved->count(), 4U);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(static_cast<unsigned char>(other.data()[bytes(Pages{i})]), 11 + i);
    EXPECT_EQ(at(10 + i), 7);  // missing from then on
  }
  EXPECT_EQ(region_.move_out(page(20, 2), other, {other.data(), Pages{1}}).error().number, EINVAL);
}

TEST_P(MovingOut, RefusesPagesThatAChildShares) {
  Region other = Region::create(bytes(Pages{8}), options_for(GetParam())).value();
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  const auto moved = region_.move_out(page(10, 4), other, {other.data(), Pages{4}});
  ASSERT_FALSE(moved);
  EXPECT_TRUE(moved.error().number == EBUSY || moved.error().number == ENOTSUP);
  EXPECT_EQ(at(10), 11);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

INSTANTIATE_TEST_SUITE_P(Backends, MovingOut,
                         ::testing::Values(BackendId::uffd_inline, BackendId::uffd_thread));

}  // namespace
}  // namespace pagetrap
