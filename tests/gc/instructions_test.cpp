// No barrier: asked of the machine code.
#include "gc/instructions.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

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

/// What stands between the function's own frame and its end. A line is "  address:<tab>name ...".
std::vector<std::string> body(const std::string& text) {
  std::vector<std::string> names;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t tab = line.find('\t');
    if (tab == std::string::npos) continue;
    const std::string words = line.substr(tab + 1);
    const std::string name = words.substr(0, words.find_first_of(" \n"));
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
