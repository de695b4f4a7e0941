// Exit codes, and messages that say what to do next.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "run_command.hpp"

namespace pagetrap::tool::test {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Command, TellsItsVersion) {
  const Ran ran = run_command({"version"});
  EXPECT_EQ(ran.status, 0);
  EXPECT_THAT(ran.output, testing::StartsWith("pagetrap 0."));
}

TEST(Command, ExplainsItself) {
  const Ran ran = run_command({"--help"});
  EXPECT_EQ(ran.status, 0);
  for (const char* const word : {"doctor", "tour", "bench", "version", "Exit codes"}) {
    EXPECT_THAT(ran.output, HasSubstr(word));
  }
}

TEST(Command, RefusesWhatItDoesNotKnow) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{},
                                                    {"dcotor"},
                                                    {"doctor", "--jsno"},
                                                    {"tour", "now"},
                                                    {"tour", "--chapter", "garden"}}) {
    const Ran ran = run_command(arguments);
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.errors, HasSubstr("--help"));
    EXPECT_EQ(ran.output, "");
  }
}

TEST(Command, HasNoColoursOutsideATerminal) {
  const Ran ran = run_command({"doctor"});
  EXPECT_THAT(ran.output, Not(HasSubstr("\033")));
  EXPECT_THAT(ran.errors, Not(HasSubstr("\033")));
}

TEST(Command, TakesAQuickTour) {
  const Ran ran = run_command({"tour", "--quick"});
  EXPECT_EQ(ran.status, 0) << ran.output << ran.errors;
  for (const char* const word : {"TRAP+PROT1+UNPROT", "DECstation", "ADDs", "evicted page",
                                 "all values right", "All that was shown worked"}) {
    EXPECT_THAT(ran.output, HasSubstr(word));
  }
}

TEST(Command, ToursOneChapter) {
  const Ran ran = run_command({"tour", "--quick", "--chapter", "store"});
  EXPECT_EQ(ran.status, 0) << ran.output << ran.errors;
  EXPECT_THAT(ran.output, Not(HasSubstr("DECstation")));
  if (ran.output.find("built without") != std::string::npos) GTEST_SKIP() << "no store";
  for (const char* const word :
       {"in a commit", "written each", "each time exactly the committed transactions"}) {
    EXPECT_THAT(ran.output, HasSubstr(word));
  }
  // Measured, or said to be missing.
  for (const char* const rival : {"LMDB", "SQLite, WAL, FULL"}) {
    EXPECT_THAT(ran.output,
                testing::AnyOf(testing::ContainsRegex(std::string(rival) + " +[0-9.]+ [mu]?s"),
                               HasSubstr(std::string(rival) + " is not installed")));
  }
}

TEST(Command, ShowsWhatGuardsFind) {
  const Ran ran = run_command({"tour", "--quick", "--chapter", "guard"});
  EXPECT_EQ(ran.status, 0) << ran.output << ran.errors;
  if (ran.output.find("Left out") != std::string::npos) GTEST_SKIP() << "no shim";
  for (const char* const word :
       {"nothing: 20000 requests answered, 0 wrong", "heap overflow: write of 1 byte",
        "1 byte after a 10-byte block", "use after free: read of 8 bytes", "double free: free()",
        "was allocated by operator new", "evict_oldest",
        "reply_cache.cpp:", "All that was shown worked"})
    EXPECT_THAT(ran.output, HasSubstr(word));
  EXPECT_THAT(ran.output, testing::ContainsRegex("page +[0-9.]+ m?s +[0-9.]+ +overflow, stale"));
  EXPECT_THAT(ran.output, testing::ContainsRegex("alias +[0-9.]+ m?s +[0-9.]+ .*stale, twice"));
}

TEST(Command, ShowsAProgramThatIsKilledTwice) {
  const Ran ran = run_command({"tour", "--quick", "--chapter", "restart"});
  EXPECT_EQ(ran.status, 0) << ran.output << ran.errors;
  if (ran.output.find("built without") != std::string::npos) GTEST_SKIP() << "no checkpoints";
  for (const char* const word :
       {"pagetrap run --checkpoint images", "A debugger that saves it stops it until",
        "killed twice, its output is that of an undisturbed run: below 900000: 837799, 524",
        "All that was shown worked"})
    EXPECT_THAT(ran.output, HasSubstr(word));
  EXPECT_THAT(ran.output, Not(HasSubstr("Left out")));
  // Killed, restarted and killed again, restarted.
  EXPECT_THAT(ran.output, testing::ContainsRegex("run +0 to 1[0-9] +[0-9]+ .*SIGKILL"));
  EXPECT_THAT(ran.output,
              testing::ContainsRegex("restart +[0-9.]+ m?s +[0-9]+ to 2[0-9] +[0-9]+ .*SIGKILL"));
  EXPECT_THAT(ran.output,
              testing::ContainsRegex("restart +[0-9.]+ m?s +[0-9]+ to 30 +[0-9]+ .*the end"));
}

TEST(Command, ShowsACollectedHeap) {
  const Ran ran = run_command({"tour", "--quick", "--chapter", "gc"});
  EXPECT_EQ(ran.status, 0) << ran.output << ran.errors;
  if (ran.output.find("built without") != std::string::npos) GTEST_SKIP() << "no collected heap";
  for (const char* const word : {"every answer named its document", "0 different", "worst thread",
                                 "after the flip", "A letter is", "All that was shown worked"})
    EXPECT_THAT(ran.output, HasSubstr(word));
  EXPECT_THAT(ran.output, testing::ContainsRegex("GCBench +[0-9.]+ +[-0-9.]+ +[0-9.]+ m?s"));
  // Measured, or said to be missing.
  EXPECT_THAT(ran.output,
              testing::AnyOf(testing::ContainsRegex("binary-trees( +[0-9.]+ m?s| +[0-9.]+)+"),
                             HasSubstr("libgc.so.1, the Boehm collector, is not installed")));
}

TEST(Command, ToursAsAnOrdinaryUser) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  const Ran ran = run_command({"tour", "--quick"}, 65534);
  EXPECT_EQ(ran.status, 0) << ran.output << ran.errors;
  EXPECT_THAT(ran.output, HasSubstr("all values right"));
}

}  // namespace
}  // namespace pagetrap::tool::test
