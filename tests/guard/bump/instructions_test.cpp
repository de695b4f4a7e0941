// No comparison and no branch: asked of the machine code.
#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <vector>

#include "guard/bump/instructions.hpp"
#include "support/disassembly.hpp"

namespace pagetrap {
namespace {

using test::disassembly_of;

std::vector<std::string> instructions(const std::string& text) {
  std::vector<std::string> names;
  for (std::string words : test::instructions_of(text)) {
    if (words.starts_with("ds ")) words.erase(0, 3);  // our prefix
    names.push_back(test::name_of_instruction(words));
  }
  return names;
}

bool begins_with_one_of(const std::string& name, std::initializer_list<const char*> beginnings) {
  return std::any_of(beginnings.begin(), beginnings.end(),
                     [&](const char* each) { return name.starts_with(each); });
}

std::ptrdiff_t returns(const std::string& text) {
  const auto names = instructions(text);
  return std::count_if(names.begin(), names.end(),
                       [](const auto& name) { return begins_with_one_of(name, {"ret"}); });
}

std::ptrdiff_t comparisons(const std::string& text) {
  const auto names = instructions(text);
  return std::count_if(names.begin(), names.end(), [](const auto& name) {
    return begins_with_one_of(name, {"cmp", "test", "sub"});
  });
}

std::ptrdiff_t branches(const std::string& text) {
  const auto names = instructions(text);
  return std::count_if(names.begin(), names.end(), [](const auto& name) {
    return begins_with_one_of(name, {"j", "call", "cmov"});
  });
}

class Instructions : public testing::Test {
 protected:
  void SetUp() override {
    if (!guard::detail::kRestartableStores) GTEST_SKIP() << "both forms compare on this CPU";
    if (SANITIZED != 0) GTEST_SKIP() << "sanitizers add comparisons of their own";
    by_guard_ = disassembly_of("allocate_by_guard");
    by_comparison_ = disassembly_of("allocate_by_comparison");
    if (returns(by_comparison_) == 0) GTEST_SKIP() << "no objdump";
  }
  std::string by_guard_;
  std::string by_comparison_;
};

TEST_F(Instructions, TheGuardedFormNeitherComparesNorBranches) {
  EXPECT_EQ(returns(by_guard_), 1) << by_guard_;
  EXPECT_EQ(comparisons(by_guard_), 0) << by_guard_;
  EXPECT_EQ(branches(by_guard_), 0) << by_guard_;
}

TEST_F(Instructions, TheTwinDoes) {
  EXPECT_GT(comparisons(by_comparison_), 0) << by_comparison_;
  EXPECT_GT(branches(by_comparison_), 0) << by_comparison_;
}

}  // namespace
}  // namespace pagetrap
