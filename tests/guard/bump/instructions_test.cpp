// No comparison and no branch: asked of the machine code.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <regex>
#include <string>

#include "guard/bump/instructions.hpp"

namespace pagetrap {
namespace {

std::string disassembly_of(const char* function) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command = std::string("objdump -d --no-show-raw-insn --disassemble=") +
                              function + " '" + program + "' 2>/dev/null";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
  std::string text;
  std::array<char, 4096> buffer;
  while (std::fgets(buffer.data(), buffer.size(), pipe.get()) != nullptr) text += buffer.data();
  return text;
}

int count(const std::string& text, const char* pattern) {
  const std::regex wanted(pattern);
  return static_cast<int>(
      std::distance(std::sregex_iterator(text.begin(), text.end(), wanted), {}));
}

class Instructions : public testing::Test {
 protected:
  void SetUp() override {
    if (!detail::kRestartableStores) GTEST_SKIP() << "both forms compare on this CPU";
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers add comparisons of their own";
#endif
    by_guard_ = disassembly_of("allocate_by_guard");
    by_comparison_ = disassembly_of("allocate_by_comparison");
    if (count(by_comparison_, "\\bret") == 0) GTEST_SKIP() << "no objdump";
  }
  std::string by_guard_;
  std::string by_comparison_;
};

constexpr const char* kComparison = "\\b(cmp|test|sub)[bwlq]?\\s";
constexpr const char* kBranch = "\\b(j[a-z]+|call|cmov[a-z]+)\\s";

TEST_F(Instructions, TheGuardedFormNeitherComparesNorBranches) {
  EXPECT_EQ(count(by_guard_, "\\bret"), 1) << by_guard_;
  EXPECT_EQ(count(by_guard_, kComparison), 0) << by_guard_;
  EXPECT_EQ(count(by_guard_, kBranch), 0) << by_guard_;
}

TEST_F(Instructions, TheTwinDoes) {
  EXPECT_GT(count(by_comparison_, kComparison), 0) << by_comparison_;
  EXPECT_GT(count(by_comparison_, kBranch), 0) << by_comparison_;
}

}  // namespace
}  // namespace pagetrap
