// No barrier: asked of the machine code.
#include "gc/instructions.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/disassembly.hpp"

namespace pagetrap {
namespace {

using test::disassembly_of;

/// What stands between the function's own frame and its end.
std::vector<std::string> body(const std::string& text) {
  std::vector<std::string> names;
  for (const std::string& words : test::instructions_of(text)) {
    const std::string name = test::name_of_instruction(words);
    const bool is_frame = name == "push" || name == "pop" || name.starts_with("endbr") ||
                          name.starts_with("nop") || words.starts_with("mov    %rsp,%rbp") ||
                          words.starts_with("xchg   %ax,%ax") || words.starts_with("data16") ||
                          words.starts_with("cs nop");
    if (name.starts_with("ret")) break;
    if (!is_frame) names.push_back(name);
  }
  return names;
}

class GcInstructions : public testing::Test {
 protected:
  void SetUp() override {
    if (SANITIZED != 0) GTEST_SKIP() << "sanitizers add instructions of their own";
    load_ = disassembly_of("gc_load");
    store_ = disassembly_of("gc_store");
    if (load_.find("ret") == std::string::npos) GTEST_SKIP() << "no objdump";
  }
  std::string load_;
  std::string store_;
};

TEST_F(GcInstructions, ALoadIsOneMove) {
  EXPECT_EQ(body(load_), std::vector<std::string>{"mov"}) << load_;
}

TEST_F(GcInstructions, AStoreIsOneMove) {
  EXPECT_EQ(body(store_), std::vector<std::string>{"mov"}) << store_;
}

}  // namespace
}  // namespace pagetrap
