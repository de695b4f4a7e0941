// Power failures, a few of each kind, and the bugs that they must find. tests/store/run makes many.
#include <gtest/gtest.h>

#include "store/campaign/power.hpp"

namespace campaign {
namespace {

using pagetrap::store::Bug;
using pagetrap::store::Detect;
using pagetrap::store::Tearing;

TEST(Power, ACommittedPrefixIsThereWhateverWasTorn) {
  for (const Tearing tearing :
       {Tearing::none, Tearing::sectors, Tearing::words, Tearing::garbage}) {
    PowerOptions options;
    options.states = 300;
    options.seed = 7 + static_cast<std::uint64_t>(tearing);
    options.tearing = tearing;
    const PowerResult result = fail_power(options);
    EXPECT_EQ(result.failures, 0U) << result.first_failure;
    EXPECT_EQ(result.states, options.states);
  }
}

class Bugs : public ::testing::TestWithParam<Bug> {};

TEST_P(Bugs, IsFound) {
  PowerOptions options;
  options.states = 2000;
  options.seed = 3;
  options.bug = GetParam();
  // A superblock is one sector: two of them at once are lost to smaller pieces only.
  if (options.bug == Bug::one_superblock_flush) options.tearing = Tearing::words;
  const PowerResult result = fail_power(options);
  EXPECT_GT(result.failures, 0U) << "in " << result.states << " states";
}

std::string bug_name(const ::testing::TestParamInfo<Bug>& info) {
  constexpr const char* kNames[] = {
      "none",       "no_log_flush",        "no_staging_flush", "no_page_flush", "superblock_first",
      "no_staging", "one_superblock_flush"};
  return kNames[static_cast<int>(info.param)];
}

INSTANTIATE_TEST_SUITE_P(Protocol, Bugs,
                         ::testing::Values(Bug::no_log_flush, Bug::no_staging_flush,
                                           Bug::no_page_flush, Bug::superblock_first,
                                           Bug::no_staging, Bug::one_superblock_flush),
                         bug_name);

}  // namespace
}  // namespace campaign
