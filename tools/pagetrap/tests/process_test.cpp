// run --checkpoint, checkpoint, restart, image: with a program that asks for its checkpoints, and
// with ones that know nothing of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "run_command.hpp"

namespace {

using namespace pagetrap::tool::test;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

class Folder {
 public:
  Folder() : path_((fs::temp_directory_path() / "pagetrap-process-XXXXXX").string()) {
    if (::mkdtemp(path_.data()) == nullptr) std::abort();
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

std::string contents(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// `command` in a shell that has no descriptors but the three: what ctest has open is no question.
Ran shell(const std::string& command) {
  return run_program("/bin/bash", {"-c", "exec 0</dev/null; " + command});
}

const std::string kCommand = PAGETRAP_COMMAND;
const std::string kCount = PAGETRAP_LONG_COUNT;

std::size_t images_in(const std::string& folder) {
  std::size_t count = 0;
  for (const auto& entry : fs::directory_iterator(folder))
    count += entry.path().extension() == ".ckpt" ? 1 : 0;
  return count;
}

TEST(Process, AsksForItsCheckpointsAndIsRestartedFromEach) {
  const Folder folder;
  const std::string images = folder / "images";
  const std::string out = folder / "out";
  const Ran whole =
      shell(kCommand + " run --checkpoint " + images + " --keep 9 -- " + kCount + " 3 > " + out);
  ASSERT_EQ(whole.status, 0) << whole.errors;
  const std::string expected =
      "chapter 0: 17984 primes\nchapter 1: 33860 primes\nchapter 2: 49098 primes\ndone\n";
  EXPECT_EQ(contents(out), expected);
  EXPECT_EQ(images_in(images), 3U);
  for (const char* const mode : {"eager", "mapped", "automatic"}) {
    const std::string option =
        std::string(mode) == "automatic" ? "" : std::string("--mode ") + mode;
    const Ran again = shell(kCommand + " restart --no-checkpoints " + option + " " + images +
                            "/process.000001.ckpt");
    EXPECT_EQ(again.status, 0) << again.errors;
    // What it had written since was cut off, and it wrote it again.
    EXPECT_THAT(again.errors, HasSubstr("shortened"));
    EXPECT_EQ(
        contents(out),
        "chapter 0: 17984 primes\ngoes on from here\nchapter 1: 33860 primes\nchapter 2: 49098 "
        "primes\ndone\n")
        << mode;
  }
}

TEST(Process, HooksRunAroundCheckpointsAndAfterARestart) {
  const Folder folder;
  const std::string images = folder / "images";
  const std::string out = folder / "out";
  ASSERT_EQ(shell(kCommand + " run --checkpoint " + images + " --keep 9 -- " + kCount +
                  " 2 hooks > " + out)
                .status,
            0);
  EXPECT_THAT(contents(out), HasSubstr("about to be saved\nwas saved\n"));
  EXPECT_THAT(contents(out), Not(HasSubstr("restarted")));
  ASSERT_EQ(shell(kCommand + " restart " + images + "/process.000001.ckpt").status, 0);
  EXPECT_THAT(contents(out), HasSubstr("was restarted\n"));
  // The one that was restarted is saved too, with hooks.
  EXPECT_THAT(contents(out), HasSubstr("was saved\n"));
}

TEST(Process, WithoutASupervisorItSaysSoAndRuns) {
  const Ran ran = run_program(kCount, {"1", "hooks"});
  EXPECT_EQ(ran.status, 0);
  EXPECT_THAT(ran.output, HasSubstr("nobody saves this"));
  EXPECT_THAT(ran.output, HasSubstr("done"));
}

TEST(Process, ARefusalNamesTheObjectAndTheProgramGoesOn) {
  const Folder folder;
  const std::string out = folder / "out";
  const Ran ran = shell(kCommand + " run --checkpoint " + (folder / "images") +
                        " --every 100ms -- bash -c 'sleep 0.4 & wait; echo unharmed' > " + out);
  EXPECT_EQ(ran.status, 0) << ran.errors;
  EXPECT_THAT(ran.errors, HasSubstr("refused: child process"));
  EXPECT_EQ(contents(out), "unharmed\n");
}

TEST(Process, EndsAsTheProgramDid) {
  const Folder folder;
  const std::string run = kCommand + " run --checkpoint " + (folder / "images") + " -- ";
  EXPECT_EQ(shell(run + "bash -c 'exit 7'").status, 7);
  EXPECT_EQ(shell(run + "bash -c 'kill -TERM $$'").status, 128 + SIGTERM);
  EXPECT_EQ(shell(run + "/no/such/program").status, 127);
}

TEST(Process, SignalsToTheCommandAreForTheProgram) {
  const Folder folder;
  const Ran ran = shell(kCommand + " run --checkpoint " + (folder / "images") +
                        " -- bash -c 'trap \"echo told; exit 3\" TERM; while :; do sleep 0.05; "
                        "done' > " +
                        (folder / "out") + " & sleep 0.5; kill -TERM $!; wait $!");
  EXPECT_EQ(ran.status, 3) << ran.errors;
  EXPECT_EQ(contents(folder / "out"), "told\n");
}

TEST(Process, IsSavedWhenSomebodyAsks) {
  const Folder folder;
  const std::string images = folder / "images";
  const Ran ran =
      shell(kCommand + " run --checkpoint " + images +
            " -- bash -c 'i=0; while [ $i -lt 40 ]; do i=$((i+1)); read -t 0.05 < "
            "/dev/zero; done; echo end' > " +
            (folder / "out") + " & sleep 0.5; p=$(cat /proc/$!/task/$!/children); " + kCommand +
            " checkpoint --json $p; " + kCommand + " checkpoint $p; wait $!");
  EXPECT_EQ(ran.status, 0) << ran.errors;
  const auto seen = nlohmann::json::parse(ran.output.substr(0, ran.output.find('\n')));
  EXPECT_EQ(seen.at("schema"), "pagetrap-checkpoint/1");
  EXPECT_EQ(seen.at("generation"), 1);
  EXPECT_GT(seen.at("frozen_us"), 0);
  EXPECT_EQ(seen.at("threads"), 1);
  EXPECT_THAT(ran.output, HasSubstr("process.000002.ckpt\n"));
  EXPECT_EQ(images_in(images), 2U);
}

TEST(Process, NobodyToAskIsSaid) {
  const Ran ran = run_command({"checkpoint", "1"});
  EXPECT_EQ(ran.status, 3);
  EXPECT_THAT(ran.errors, HasSubstr("nobody watches over process 1"));
}

TEST(Process, AnImageIsDescribed) {
  const Folder folder;
  const std::string images = folder / "images";
  ASSERT_EQ(
      shell(kCommand + " run --checkpoint " + images + " -- " + kCount + " 1 > " + (folder / "out"))
          .status,
      0);
  const std::string image = images + "/process.000001.ckpt";
  const Ran words = run_command({"image", "inspect", image});
  EXPECT_EQ(words.status, 0);
  EXPECT_THAT(words.output, HasSubstr("long_count 1"));
  EXPECT_THAT(words.output, HasSubstr("stack"));
  const Ran json = run_command({"image", "inspect", "--json", image});
  const auto seen = nlohmann::json::parse(json.output);
  const auto& process = seen.at("images").at(0).at("process");
  EXPECT_EQ(process.at("threads").size(), 1U);
  EXPECT_GE(process.at("files").size(), 3U);
  EXPECT_GT(process.at("memory").size(), 10U);
  EXPECT_EQ(run_command({"image", "verify", image}).status, 0);
  // A merged image is one of a process too.
  const std::string merged = folder / "merged.ckpt";
  ASSERT_EQ(run_command({"image", "merge", image, "-o", merged, "--compression", "zstd"}).status,
            0);
  EXPECT_EQ(shell(kCommand + " restart --no-checkpoints --mode eager " + merged).status, 0);
  EXPECT_THAT(contents(folder / "out"), HasSubstr("goes on from here\ndone\n"));
}

TEST(Process, UnderAnotherKernelTheOldVdsoLeadsToTheNewOne) {
  const Folder folder;
  const std::string images = folder / "images";
  const std::string out = folder / "out";
  const Ran first =
      shell(kCommand + " run --checkpoint " + images + " --keep 9 -- " + kCount + " 2 > " + out);
  ASSERT_EQ(first.status, 0) << first.errors;
  const Ran again = shell(kCommand + " restart --other-kernel " + images + "/process.000001.ckpt");
  EXPECT_EQ(again.status, 0) << again.errors;
  EXPECT_THAT(contents(out), HasSubstr("goes on from here\nchapter 1: 33860 primes\ndone\n"));
}

TEST(Process, RestartsAtATime) {
  const Folder folder;
  const std::string images = folder / "images";
  ASSERT_EQ(
      shell(kCommand + " run --checkpoint " + images + " -- " + kCount + " 1 > " + (folder / "out"))
          .status,
      0);
  EXPECT_EQ(run_command({"restart", images, "--at", "1999-12-31"}).status, 3);
  EXPECT_EQ(run_command({"restart", images, "--at", "yesterday"}).status, 2);
  EXPECT_EQ(shell(kCommand + " restart --at @4000000000 " + images).status, 0);
}

TEST(Process, WhatIsNoImageOfAProcessIsRefused) {
  const Folder folder;
  EXPECT_EQ(run_command({"restart", folder / "nothing"}).status, 3);
  std::ofstream(folder / "process.000001.ckpt") << "not an image";
  const Ran ran = run_command({"restart", folder / "process.000001.ckpt"});
  EXPECT_EQ(ran.status, 3);
  EXPECT_THAT(ran.errors, HasSubstr("process.000001.ckpt"));
}

}  // namespace
