// Images that build on each other: each of them is what the memory was.
#include <unistd.h>

#include "checkpoint/process/support.hpp"

namespace pagetrap::checkpoint {
namespace {

class Increments : public ::testing::TestWithParam<Compression> {};

TEST_P(Increments, EachImageIsWhatTheMemoryWas) {
  if (::getuid() != 0) GTEST_SKIP() << "restarts under the same process id, and lazy ones";
  Subject subject("increments");
  std::string why;
  ASSERT_TRUE(subject.is_ready(why));
  auto options = subject.saving();
  options.keep = 20;
  options.compression = GetParam();
  auto saver = ProcessSaver::attach(subject.id(), options);
  ASSERT_TRUE(worked(saver));
  std::vector<std::string> images;
  for (int step = 1; step <= 6; ++step) {
    ASSERT_TRUE(wait_for_file(subject.file("done." + std::to_string(step)), subject.id()));
    const auto saved = saver->checkpoint();
    ASSERT_TRUE(worked(saved, saver->refusals()));
    if (saved->tracked && step > 1) {
      EXPECT_NE(saved->parent, ImageId{});
      EXPECT_LT(saved->pages_written, 2000U);
    }
    images.push_back(saved->path);
    subject.tell("step." + std::to_string(step));
  }
  ASSERT_TRUE(wait_for_file(subject.file("done.7"), subject.id()));
  EXPECT_EQ(subject.finish(), "right");
  for (const RestartMode mode : kModes) {
    if (mode == RestartMode::mapped && GetParam() != Compression::none) continue;
    for (const std::string& image : images)
      EXPECT_EQ(restart_and_finish(subject, mode, image), "right") << name_of(mode) << " " << image;
  }
}

INSTANTIATE_TEST_SUITE_P(Compressions, Increments,
                         ::testing::Values(Compression::none, Compression::lz4),
                         [](const auto& each) { return std::string(name(each.param)); });

TEST(ManyThreads, MoreThreadsThanAtTheFirst) {
  Subject subject("more_threads");
  std::string why;
  ASSERT_TRUE(subject.is_ready(why));
  auto saver = ProcessSaver::attach(subject.id(), subject.saving());
  ASSERT_TRUE(worked(saver));
  ASSERT_TRUE(worked(saver->checkpoint(), saver->refusals()));
  subject.tell("more");
  ASSERT_TRUE(wait_for_file(subject.file("made"), subject.id()));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(worked(saver->checkpoint(), saver->refusals()));
  EXPECT_EQ(subject.finish(), "right");
  if (::getuid() == 0) {
    EXPECT_EQ(restart_and_finish(subject, RestartMode::eager), "right");
  }
}

}  // namespace
}  // namespace pagetrap::checkpoint
