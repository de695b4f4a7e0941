// pagetrap store stat, check, dump and compact: what they say of files of every kind, as text and
// as JSON, and what they return.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory_resource>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include <pagetrap/store/store.hpp>

#include "run_command.hpp"

namespace pagetrap::tool::test {
namespace {

using nlohmann::json;
using pagetrap::store::Store;
using testing::HasSubstr;
using testing::Not;

using Words = std::pmr::map<int, std::pmr::string>;

constexpr const char* kCommands[] = {"stat", "check", "dump", "compact"};
constexpr std::uint64_t kNumber = 0x6b61'7254'6567'6150;  // in a dump: "PageTrak"
constexpr std::uint64_t kPage = 4096;

pagetrap::store::StoreOptions small() {
  pagetrap::store::StoreOptions options;
  options.log_bytes = 1_MiB;
  options.reserve_bytes = 256_MiB;
  return options;
}

class StoreCommand : public testing::Test {
 protected:
  StoreCommand() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "pagetrap-command-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
    folder_ = pattern;
    file_ = pattern + "/words.store";
  }
  ~StoreCommand() override { std::filesystem::remove_all(folder_); }

  /// Closed cleanly, with two roots.
  void make() const {
    Store store = Store::open(file_, small()).value();
    Words& words = *store.root<Words>("words").value();
    std::uint64_t& number = *store.root<std::uint64_t>("number").value();
    for (int i = 0; i < 50; ++i)
      store
          .transaction([&] {
            words[i] = std::string(1000, 'w');
            number = kNumber;
          })
          .value();
    store.close().value();
  }
  /// As make(), then left by a program that died after one more commit.
  void make_and_die() const {
    make();
    const pid_t child = ::fork();
    if (child == 0) {
      Store store = Store::open(file_, small()).value();
      Words& words = *store.root<Words>("words").value();
      store.transaction([&] { words[100] = "the last"; }).value();
      ::_exit(0);
    }
    int status = 1;
    ::waitpid(child, &status, 0);
    ASSERT_EQ(status, 0);
  }

  Ran run(const std::string& command, const std::vector<std::string>& more = {},
          unsigned uid = 0) const {
    std::vector<std::string> arguments{"store", command, file_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_command(arguments, uid);
  }
  /// What `command --json` says of the file; the exit code is `status`, there too.
  json told(const std::string& command, int status,
            const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Ran ran = run(command, arguments);
    EXPECT_EQ(ran.status, status) << command << ": " << ran.errors;
    const json all = json::parse(ran.output);
    EXPECT_EQ(all.at("schema"), "pagetrap-store/1");
    EXPECT_EQ(all.at("command"), command);
    EXPECT_EQ(all.at("exit_code"), status);
    EXPECT_EQ(all.at("stores").size(), 1U);
    json one = all.at("stores").at(0);
    EXPECT_EQ(one.at("file"), file_);
    EXPECT_EQ(one.at("ok"), status == 0);
    EXPECT_EQ(one.contains("error"), status != 0);
    return one;
  }
  /// `command` refuses the file: with `status`, with `message` for people, and with `error` in
  /// JSON.
  void expect_refusal(const std::string& command, int status, const char* error,
                      const char* message) const {
    const Ran ran = run(command);
    EXPECT_EQ(ran.status, status) << command;
    EXPECT_EQ(ran.output, "") << command;
    EXPECT_THAT(ran.errors, HasSubstr(file_)) << command;
    EXPECT_THAT(ran.errors, HasSubstr(message)) << command;
    EXPECT_EQ(told(command, status).at("error").at("errno_name"), error) << command;
  }

  [[nodiscard]] std::string contents() const {
    std::ifstream file(file_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write(const std::string& contents) const {
    std::ofstream file(file_, std::ios::binary | std::ios::trunc);
    file << contents;
    file.close();
    ASSERT_TRUE(file) << file_;
  }
  /// Where in the file a byte of the data is; docs/formats/store.md.
  [[nodiscard]] static std::uint64_t place_of(const std::string& store, std::uint64_t in_data) {
    std::uint64_t data_offset = 0;
    std::memcpy(&data_offset, store.data() + 104, sizeof data_offset);
    return data_offset + kPage + in_data;  // behind the checksums of the first group
  }

  std::filesystem::path folder_;
  std::string file_;
};

TEST_F(StoreCommand, TellsItsExitCodes) {
  for (const char* const command : kCommands) {
    const Ran ran = run_command({"store", command, "--help"});
    EXPECT_EQ(ran.status, 0);
    for (const char* const words :
         {"Exit codes: 0", "1 a file is damaged", "2 ", "3 ", "has it open", "--json", "FILE"})
      EXPECT_THAT(ran.output, HasSubstr(words)) << command;
  }
}

TEST_F(StoreCommand, RefusesWhatItDoesNotKnow) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"store"},
                                                    {"store", "chekc", file_},
                                                    {"store", "check"},
                                                    {"store", "check", file_, "--root", "words"},
                                                    {"store", "stat", file_, "--jsno"}}) {
    const Ran ran = run_command(arguments);
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.errors, HasSubstr("--help"));
    EXPECT_EQ(ran.output, "");
  }
}

TEST_F(StoreCommand, TellsPeopleAboutACleanStore) {
  make();
  const Ran stat = run("stat");
  EXPECT_EQ(stat.status, 0) << stat.errors;
  for (const char* const words : {"closed cleanly", "words", "number", "53, in 1 openings"})
    EXPECT_THAT(stat.output, HasSubstr(words));
  const Ran check = run("check");
  EXPECT_EQ(check.status, 0) << check.errors;
  EXPECT_THAT(check.output, HasSubstr("intact"));
  EXPECT_THAT(check.output, HasSubstr("53 commits"));
  const Ran dump = run("dump");
  EXPECT_EQ(dump.status, 0) << dump.errors;
  EXPECT_THAT(dump.output, testing::ContainsRegex("50 61 67 65 54 72 61 6b +PageTrak"));
  const Ran compact = run("compact");
  EXPECT_EQ(compact.status, 0) << compact.errors;
  EXPECT_THAT(compact.output, HasSubstr(", was "));
  for (const Ran& ran : {stat, check, dump, compact}) {
    EXPECT_EQ(ran.errors, "");
    EXPECT_THAT(ran.output, Not(HasSubstr("\033")));
  }
}

TEST_F(StoreCommand, TellsProgramsAboutACleanStore) {
  make();
  json before = told("stat", 0);
  EXPECT_EQ(before.at("clean"), true);
  EXPECT_EQ(before.at("intact_superblocks"), 2);
  EXPECT_EQ(before.at("commits"), 53);  // the heap's, two roots, the words
  EXPECT_EQ(before.at("log_records"), 0);
  EXPECT_EQ(before.at("log_bytes"), 1 << 20);
  EXPECT_EQ(before.at("file_bytes"), std::filesystem::file_size(file_));
  ASSERT_EQ(before.at("roots").size(), 2U);
  const json& root = before.at("roots").at(0);
  EXPECT_EQ(root.at("name"), "number");
  EXPECT_EQ(root.at("size_bytes"), sizeof kNumber);
  EXPECT_GE(root.at("address"), before.at("base"));
  EXPECT_EQ(told("check", 0), before);
  EXPECT_EQ(told("dump", 0), before);

  const json after = told("compact", 0);
  EXPECT_EQ(after.at("base"), before.at("base"));
  EXPECT_EQ(after.at("roots"), before.at("roots"));
  EXPECT_LE(after.at("file_bytes"), before.at("file_bytes"));
  EXPECT_EQ(told("check", 0), after);
}

TEST_F(StoreCommand, DumpsOneRoot) {
  make();
  const Ran dump = run("dump", {"--root", "number"});
  EXPECT_EQ(dump.status, 0) << dump.errors;
  EXPECT_THAT(dump.output, HasSubstr("PageTrak"));
  const Ran other = run("dump", {"--root", "words"});
  EXPECT_EQ(other.status, 0) << other.errors;
  EXPECT_THAT(other.output, Not(HasSubstr("PageTrak")));
  EXPECT_EQ(run("dump", {"--root", "sentences"}).status, 2);
  EXPECT_EQ(told("dump", 2, {"--root", "sentences"}).at("error").at("errno_name"), "EINVAL");
}

TEST_F(StoreCommand, SeesWhatAProgramThatDiedLeft) {
  make_and_die();
  const json left = told("stat", 0);
  EXPECT_EQ(left.at("clean"), false);
  EXPECT_EQ(left.at("log_records"), 1);
  EXPECT_EQ(left.at("commits"), 54);
  EXPECT_EQ(left.at("openings"), 2);
  EXPECT_THAT(run("stat").output, HasSubstr("not closed: 1 commits are in the log only"));
  EXPECT_EQ(told("check", 0), left);

  const json compacted = told("compact", 0);
  EXPECT_EQ(compacted.at("clean"), true);
  EXPECT_EQ(compacted.at("log_records"), 0);
  EXPECT_EQ(compacted.at("commits"), 54);
  Store store = Store::open(file_, small()).value();
  Words& words = *store.root<Words>("words").value();
  EXPECT_EQ(words.size(), 51U);
  EXPECT_EQ(words[100], "the last");
}

TEST_F(StoreCommand, NamesThePlaceOfADamagedPage) {
  make();
  const json intact = told("stat", 0);
  const std::uint64_t in_data = intact.at("roots").at(0).at("address").get<std::uint64_t>() -
                                intact.at("base").get<std::uint64_t>();
  ASSERT_LT(in_data, 512 * kPage);  // in the first group
  std::string damaged = contents();
  const std::uint64_t place = place_of(damaged, in_data);
  damaged.at(place) = static_cast<char>(damaged.at(place) ^ 1);
  write(damaged);

  // These read that page; `stat` does not.
  for (const char* const command : {"check", "dump", "compact"}) {
    const json error = told(command, 1).at("error");
    EXPECT_EQ(error.at("errno_name"), "EBADMSG") << command;
    EXPECT_EQ(error.at("position"), place / kPage * kPage) << command;
  }
  const Ran check = run("check");
  EXPECT_EQ(check.status, 1);
  EXPECT_EQ(check.output, "");
  EXPECT_THAT(check.errors, HasSubstr(std::to_string(place / kPage * kPage)));
  EXPECT_EQ(told("stat", 0), intact);
  EXPECT_EQ(contents(), damaged);
  // Nor is a new file left beside it.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(StoreCommand, DoesWithOneSuperblock) {
  make();
  std::string damaged = contents();
  damaged.at(50) = static_cast<char>(damaged.at(50) ^ 1);
  write(damaged);
  EXPECT_EQ(told("stat", 0).at("intact_superblocks"), 1);
  EXPECT_THAT(run("stat").output, HasSubstr("one of two copies is damaged"));
  damaged.at(4096 + 50) = static_cast<char>(damaged.at(4096 + 50) ^ 1);
  write(damaged);
  for (const char* const command : kCommands)
    expect_refusal(command, 1, "EBADMSG", "both copies are damaged");
}

TEST_F(StoreCommand, RefusesAFileThatWasCutShort) {
  make();
  const std::string whole = contents();
  for (const std::size_t length : {whole.size() - 1, whole.size() / 2, std::size_t{8192}}) {
    write(whole.substr(0, length));
    for (const char* const command : kCommands) {
      expect_refusal(command, 1, "EBADMSG", "the file has been cut short");
      EXPECT_EQ(told(command, 1).at("error").at("position"), length);
    }
  }
  write(whole.substr(0, 5000));
  for (const char* const command : kCommands)
    expect_refusal(command, 1, "EBADMSG", "too short for a store");
  write("");
  for (const char* const command : kCommands)
    expect_refusal(command, 1, "EBADMSG", "too short for a store");
}

TEST_F(StoreCommand, RefusesWhatIsNoStore) {
  write(std::string(100'000, 'a'));
  for (const char* const command : kCommands)
    expect_refusal(command, 1, "EBADMSG", "this is not a store");
  EXPECT_EQ(contents(), std::string(100'000, 'a'));
}

TEST_F(StoreCommand, RefusesAFileThatIsMissing) {
  for (const char* const command : kCommands) expect_refusal(command, 3, "ENOENT", "No such file");
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(StoreCommand, RefusesAFileThatItMayNotRead) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  constexpr unsigned kNobody = 65534;
  make();
  std::filesystem::permissions(folder_, std::filesystem::perms::all);
  std::filesystem::permissions(file_, std::filesystem::perms::owner_all);
  for (const char* const command : kCommands) {
    const Ran ran = run(command, {}, kNobody);
    EXPECT_EQ(ran.status, 3) << command;
    EXPECT_THAT(ran.errors, HasSubstr("Permission denied")) << command;
  }
}

TEST_F(StoreCommand, ReadsAStoreThatAProgramHasOpenButDoesNotCompactIt) {
  make();
  {
    // In a process of its own, that only a signal ends.
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t holder = ::fork();
    if (holder == 0) {
      const auto store = Store::open(file_, small());
      const char open = store ? 'y' : 'n';
      if (::write(ready[1], &open, 1) == 1) ::pause();
      ::_exit(1);
    }
    ::close(ready[1]);
    char open = 'n';
    EXPECT_EQ(::read(ready[0], &open, 1), 1);
    ::close(ready[0]);
    EXPECT_EQ(open, 'y');
    expect_refusal("compact", 3, "EBUSY", "somebody has it open");
    for (const char* const command : {"stat", "check"})
      EXPECT_EQ(told(command, 0).at("in_use"), true) << command;
    EXPECT_EQ(run("dump", {file_}).status, 0);
    ::kill(holder, SIGKILL);
    ::waitpid(holder, nullptr, 0);
  }
  EXPECT_EQ(told("check", 0).at("commits"), 53);
  EXPECT_EQ(told("check", 0).at("in_use"), false);
}

TEST_F(StoreCommand, GoesOnToTheNextFile) {
  make();
  const std::string missing = (folder_ / "missing").string();
  const Ran ran = run("check", {missing, file_, "--json"});
  EXPECT_EQ(ran.status, 3);
  const json all = json::parse(ran.output);
  EXPECT_EQ(all.at("exit_code"), 3);
  ASSERT_EQ(all.at("stores").size(), 3U);
  EXPECT_EQ(all.at("stores").at(0).at("ok"), true);
  EXPECT_EQ(all.at("stores").at(1).at("ok"), false);
  EXPECT_EQ(all.at("stores").at(1).at("file"), missing);
  EXPECT_EQ(all.at("stores").at(2).at("ok"), true);
}

TEST_F(StoreCommand, DoesNotSendNamesToTheTerminal) {
  file_ = (folder_ / "a\033[2Jb").string();
  make();
  for (const char* const command : {"stat", "check"}) {
    const Ran ran = run(command);
    EXPECT_EQ(ran.status, 0) << ran.errors;
    EXPECT_THAT(ran.output, Not(HasSubstr("\033")));
    EXPECT_THAT(ran.output, HasSubstr("a\\x1b[2Jb"));
  }
}

}  // namespace
}  // namespace pagetrap::tool::test
