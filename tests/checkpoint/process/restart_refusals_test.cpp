// What is not as it was: a restart says so, and makes nothing.
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "checkpoint/process/support.hpp"

namespace pagetrap::checkpoint {
namespace {

// Saves "regular_files", whose descriptors are 3: read, and 4 to 7 of files that it writes to.
class RestartRefusal : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::getuid() != 0) GTEST_SKIP() << "restarts under the same process id";
    std::string why;
    ASSERT_TRUE(subject.is_ready(why));
    auto saver = ProcessSaver::attach(subject.id(), subject.saving());
    ASSERT_TRUE(worked(saver));
    ASSERT_TRUE(worked(saver->checkpoint(), saver->refusals()));
    subject.kill();
  }
  void expect_refused(const std::string& line, RestartOptions options = {}) const {
    std::vector<std::string> refusals;
    const auto restarted = RestartedProcess::start(subject.images(), options, refusals);
    ASSERT_FALSE(restarted);
    EXPECT_EQ(restarted.error().number, ENOTSUP) << describe(restarted.error());
    EXPECT_EQ(joined(refusals), line + "\n");
  }
  Subject subject{"regular_files"};
};

TEST_F(RestartRefusal, AFileThatChanged) {
  std::ofstream(subject.file("read")) << "9876543210";
  std::filesystem::last_write_time(subject.file("read"),
                                   std::filesystem::file_time_type::clock::now());
  expect_refused("fd 3: file " + subject.file("read") + " has changed since");
}

TEST_F(RestartRefusal, AFileThatIsMissing) {
  std::filesystem::remove(subject.file("read"));
  expect_refused("fd 3: file " + subject.file("read") + ": No such file or directory");
  RestartOptions any;
  any.any_files = true;
  std::vector<std::string> refusals;
  const auto restarted = RestartedProcess::start(subject.images(), any, refusals);
  ASSERT_FALSE(restarted);
  EXPECT_EQ(joined(refusals), "fd 3: " + subject.file("read") + ": No such file or directory\n");
}

TEST_F(RestartRefusal, AWrittenFileThatIsShorter) {
  std::filesystem::resize_file(subject.file("written"), 3);
  const std::string words = ": file " + subject.file("written") + " is shorter than it was";
  std::vector<std::string> refusals;
  ASSERT_FALSE(RestartedProcess::start(subject.images(), {}, refusals));
  ASSERT_FALSE(refusals.empty());
  for (const std::string& line : refusals) EXPECT_NE(line.find(words), std::string::npos) << line;
}

TEST_F(RestartRefusal, ADirectoryInItsPlace) {
  std::filesystem::remove(subject.file("read"));
  std::filesystem::create_directory(subject.file("read"));
  expect_refused("fd 3: " + subject.file("read") + " is of another kind now");
}

}  // namespace
}  // namespace pagetrap::checkpoint
