// The family of malloc keeps its promises under every strength. For long: run-malloc-model.
#include <gtest/gtest.h>

#include "guard/guarded.hpp"

namespace pagetrap::guard::test {
namespace {

struct Strength {
  const char* name;
  Words options;
};

class MallocModel : public testing::TestWithParam<Strength> {};

const Words kModel{PAGETRAP_MALLOC_MODEL, "20261130", "3000", "3"};

TEST(MallocModel, HoldsForTheCLibrary) {
  const Ran ran = preload::test::run(kModel);
  EXPECT_EQ(ran.output, "as promised\n") << ran.errors;
}

TEST_P(MallocModel, Holds) {
  const Guarded guarded = run_guarded(GetParam().options, kModel);
  EXPECT_EQ(guarded.ran.output, "as promised\n") << guarded.ran.errors;
  EXPECT_EQ(guarded.ran.status, 0);
  EXPECT_TRUE(guarded.reports.empty()) << guarded.reports[0];
}

INSTANTIATE_TEST_SUITE_P(
    Guard, MallocModel,
    testing::Values(Strength{"page", {"=page"}},
                    Strength{"left", {"=page", "--guard-side", "left"}},
                    Strength{"markers", {"=page", "--guard-mechanism", "markers"}},
                    Strength{"mprotect", {"=page", "--guard-mechanism", "mprotect"}},
                    Strength{"cold", {"=page+cold", "--guard-hot", "256K"}},
                    Strength{"alias", {"=alias"}},
                    Strength{"batched", {"=alias", "--guard-revoke", "batched"}},
                    Strength{"lazy", {"=alias", "--guard-revoke", "lazy"}},
                    Strength{"sample", {"=sample", "--guard-rate", "5"}}),
    [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace pagetrap::guard::test
