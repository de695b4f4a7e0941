// A disk that fails: the caller is told, nothing that was committed is lost, memory shows what is
// on the medium.
#include <deque>

#include <gtest/gtest.h>

#include "store/campaign/workload.hpp"
#include "store/disks.hpp"
#include "store/store_state.hpp"

namespace campaign {
namespace {

using namespace pagetrap::store;
using pagetrap::describe;
using pagetrap::Result;

constexpr std::uint64_t kSeed = 11;

StoreOptions small() {
  StoreOptions options;
  options.log_bytes = std::size_t{128} << 10;
  options.reserve_bytes = std::size_t{32} << 20;
  return options;
}

Bytes fresh() {
  MemoryDisk disk;
  EXPECT_FALSE(failed(StoreState::format(disk, small(), 24)));
  return disk.contents();
}

struct Failure {
  int error;
  bool half;
  bool forever;
};

class Failing : public ::testing::TestWithParam<Failure> {};

// The n-th write, flush or growth fails, for each n that a run of some steps has.
TEST_P(Failing, NothingAcknowledgedIsLost) {
  Model model(kSeed);
  std::uint64_t failures = 0;
  for (std::uint64_t skip = 0; skip < 220; skip += skip < 20 ? 1 : 7) {
    auto owned = std::make_unique<FailingDisk>(fresh());
    FailingDisk& disk = *owned;
    auto state = StoreState::open(std::move(owned), small());
    ASSERT_TRUE(state) << describe(state.error());
    Store store = StoreState::as_store(std::move(*state));
    auto* const world = store.root<World>("world").value();
    disk.fail(GetParam().error, skip, GetParam().half, GetParam().forever);
    std::uint64_t acknowledged = 0;
    std::uint64_t taken = 0;
    bool refused = false;
    for (std::uint64_t number = 1; number <= 200 && !refused; ++number) {
      const auto position = step_in(store, *world, kSeed, number);
      if (position) taken = number;
      const auto done = position ? store.wait(*position) : Result<pagetrap::Done>(position.error());
      if (done) {
        acknowledged = number;
        continue;
      }
      // What the caller was told is what it sees.
      EXPECT_EQ(done.error().number, GetParam().error) << describe(done.error());
      refused = true;
      EXPECT_EQ(check(store, model, acknowledged, acknowledged), "") << "skip " << skip;
    }
    failures += disk.failed_once() ? 1 : 0;
    disk.heal();
    // And what is found again: at least all of that, and at most what was tried.
    const Bytes left = disk.contents();
    StoreState::of(store).abandon_file();
    { const Store gone = std::move(store); }
    auto again = StoreState::open(std::make_unique<MemoryDisk>(left), small());
    ASSERT_TRUE(again) << describe(again.error()) << " skip " << skip;
    ASSERT_FALSE(failed((*again)->verify_all())) << "skip " << skip;
    Store found = StoreState::as_store(std::move(*again));
    EXPECT_EQ(check(found, model, acknowledged, std::max(taken, acknowledged + 1)), "")
        << "skip " << skip;
    StoreState::of(found).abandon_file();
  }
  EXPECT_GT(failures, 20U);
}

INSTANTIATE_TEST_SUITE_P(Disks, Failing,
                         ::testing::Values(Failure{EIO, false, true}, Failure{EIO, true, false},
                                           Failure{EIO, false, false},
                                           Failure{ENOSPC, false, false}),
                         [](const ::testing::TestParamInfo<Failure>& one) {
                           return std::string(one.param.error == EIO ? "EIO" : "ENOSPC") +
                                  (one.param.half ? "_short" : "") +
                                  (one.param.forever ? "_for_ever" : "_once");
                         });

// No room to grow: the transaction is undone, and the next one that needs none is committed.
TEST(FullDisk, AFullDiskIsNotTheEnd) {
  auto owned = std::make_unique<FailingDisk>(fresh());
  FailingDisk& disk = *owned;
  auto state = StoreState::open(std::move(owned), small());
  ASSERT_TRUE(state) << describe(state.error());
  Store store = StoreState::as_store(std::move(*state));
  auto* const bytes = store.root<std::pmr::deque<std::uint64_t>>("bytes").value();
  std::uint64_t grown = 0;
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(store.transaction([&] { bytes->resize(bytes->size() + 4000, 1); }));
    grown = bytes->size();
  }
  // Only growing fails.
  disk.fail_growth(ENOSPC);
  pagetrap::Result<pagetrap::Done> done = pagetrap::Done{};
  while (done) {
    grown = bytes->size();
    done = store.transaction([&] { bytes->resize(bytes->size() + 4000, 2); });
  }
  EXPECT_EQ(done.error().number, ENOSPC);
  EXPECT_EQ(bytes->size(), grown);
  EXPECT_TRUE(store.transaction([&] { (*bytes)[7] = 9; }));
  disk.fail_growth(0);
  EXPECT_TRUE(store.transaction([&] { bytes->resize(bytes->size() + 4000, 3); }));
  EXPECT_EQ((*bytes)[7], 9U);
}

TEST(Opening, ErrorsNameThePlace) {
  const auto open = [](Bytes bytes) -> pagetrap::Error {
    auto state = StoreState::open(std::make_unique<MemoryDisk>(std::move(bytes)), small());
    return state ? pagetrap::Error{} : state.error();
  };
  Bytes good = fresh();
  EXPECT_EQ(open(good).number, 0);
  EXPECT_EQ(open({}).number, EBADMSG);
  EXPECT_EQ(open(Bytes(100'000)).number, EBADMSG);
  Bytes cut = good;
  cut.resize(cut.size() - 4096);
  EXPECT_EQ(open(cut).number, EBADMSG);
  EXPECT_EQ(open(cut).position, static_cast<std::int64_t>(cut.size()));
  Bytes one = good;
  one[40] ^= std::byte{1};
  EXPECT_EQ(open(one).number, 0) << "the other copy serves";
  Bytes both = one;
  both[4096 + 40] ^= std::byte{1};
  EXPECT_EQ(open(both).number, EBADMSG);
}

}  // namespace
}  // namespace campaign
