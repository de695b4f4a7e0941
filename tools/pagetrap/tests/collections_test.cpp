// pagetrap collections, from outside: a real heap's trace, and files that are none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <pagetrap/gc/gc.hpp>
#include <pagetrap/trace/trace.hpp>

#include "run_command.hpp"

namespace pagetrap::tool::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kKinds = "fault,flip,pause,close,scan,open,pin,stall,cycle";

struct Node : gc::object<Node> {
  gc::ref<Node> next;
  std::uint64_t number = 0;
  static constexpr auto members = gc::members(&Node::next);
};

/// Three cycles, of which the last is full, over a list that is walked while they run.
void collect_a_little(gc::PageSupply supply) {
  gc::Options options;
  options.limit_bytes = 64_MiB;
  options.nursery_bytes = 1_MiB;
  options.supply = supply;
  gc::Heap heap(options);
  const gc::Mutator here(heap);
  gc::root<Node> list(heap);
  for (std::uint64_t i = 0; i < 20'000; ++i) list = heap.make<Node>(list.get(), i);
  for (const bool full : {false, false, true}) {
    heap.collect(full);
    std::uint64_t sum = 0;
    for (const Node* at = list.get(); at != nullptr; at = at->next) sum += at->number;
    if (sum != std::uint64_t{20'000} * 19'999 / 2) ::_exit(9);
  }
}

class CollectionsCommand : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "collections.XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    file_ = (folder_ / "a.trace").string();
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  /// In a process of its own, which has one ring for ever.
  void make(const char* kinds = kKinds, std::size_t events = 1 << 18,
            gc::PageSupply supply = gc::PageSupply::best) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(60);
      if (!trace::configure(kinds, events, file_)) ::_exit(8);
      collect_a_little(supply);
      ::_exit(0);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    ASSERT_EQ(status, 0);
  }
  [[nodiscard]] std::string contents() const {
    std::ifstream in(file_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& bytes) const {
    std::ofstream(file_, std::ios::binary | std::ios::trunc) << bytes;
  }
  [[nodiscard]] Ran run(std::vector<std::string> options = {}) const {
    options.insert(options.begin(), {"collections", file_});
    return run_command(options);
  }
  [[nodiscard]] json told(int status, std::vector<std::string> options = {}) const {
    options.emplace_back("--json");
    const Ran ran = run(options);
    EXPECT_EQ(ran.status, status) << ran.errors;
    json all = json::parse(ran.output);
    EXPECT_EQ(all.at("schema"), "pagetrap-collections/1");
    EXPECT_EQ(all.at("exit_code"), status);
    EXPECT_EQ(all.at("ok"), status == 0);
    return all;
  }
  void expect_refusal(int status, const char* errno_name, const char* words,
                      std::vector<std::string> options = {}) const {
    const Ran ran = run(options);
    EXPECT_EQ(ran.status, status);
    EXPECT_EQ(ran.output, "");
    EXPECT_THAT(ran.errors, HasSubstr(words));
    EXPECT_EQ(told(status, options).at("error").at("errno_name"), errno_name);
  }

  std::filesystem::path folder_;
  std::string file_;
};

TEST_F(CollectionsCommand, TellsPeople) {
  make();
  const Ran ran = run();
  EXPECT_EQ(ran.status, 0) << ran.errors;
  EXPECT_EQ(ran.errors, "");
  for (const char* const words : {"Cycles", "minor", "full", "flips: all threads",
                                  "traps: one thread", "Minimum mutator utilisation", "100 us"})
    EXPECT_THAT(ran.output, HasSubstr(words));
  EXPECT_THAT(ran.output, Not(HasSubstr("\033")));

  const Ran map = run({"--map", "--frames", "4"});
  EXPECT_EQ(map.status, 0) << map.errors;
  for (const char* const words : {"after the flip", "closed", "####", "A letter is"})
    EXPECT_THAT(map.output, HasSubstr(words));
}

TEST_F(CollectionsCommand, TellsPrograms) {
  make();
  const json all = told(0);
  EXPECT_EQ(all.at("overwritten"), 0);
  ASSERT_EQ(all.at("heaps").size(), 1U);
  const json& heap = all.at("heaps").at(0);
  const json& cycles = heap.at("cycles");
  ASSERT_GE(cycles.size(), 3U);
  std::uint64_t number = 0;
  double pauses = 0;
  for (const json& cycle : cycles) {
    EXPECT_GT(cycle.at("number"), number);
    number = cycle.at("number");
    EXPECT_GT(cycle.at("pause_us"), 0);
    EXPECT_GE(cycle.at("total_us"), cycle.at("pause_us"));
    pauses += cycle.at("stop_us").get<double>() + cycle.at("pause_us").get<double>();
  }
  EXPECT_EQ(cycles.back().at("full"), true);
  EXPECT_EQ(heap.at("flips").at("count"), cycles.size());
  EXPECT_NEAR(heap.at("flips").at("total_us"), pauses, pauses / 1000);
  std::uint64_t binned = 0;
  for (const json& bin : heap.at("flips").at("histogram"))
    binned += bin.at("count").get<unsigned>();
  EXPECT_EQ(binned, cycles.size());
  double before = 0;
  for (const json& row : heap.at("utilisation")) {
    EXPECT_GT(row.at("window_us"), before);
    before = row.at("window_us");
    EXPECT_LE(row.at("worst"), row.at("flips"));
    EXPECT_GE(row.at("worst"), 0);
  }
}

/// Checks one cycle's replay against itself; what happened in it.
std::set<std::string> check_replay(const json& replay) {
  std::set<std::uint64_t> known;
  for (const std::string run : replay.at("runs")) {
    std::istringstream in(run);
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    EXPECT_TRUE(in >> first >> count);
    for (std::uint64_t page = first; page < first + count; ++page) known.insert(page);
  }
  // Nothing is opened that was not closed, and all that was made is opened.
  std::set<std::uint64_t> closed;
  std::set<std::uint64_t> made;
  std::set<std::string> kinds;
  for (const std::string event : replay.at("events")) {
    std::istringstream in(event);
    double time = 0;
    std::string what;
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    unsigned thread = 0;
    EXPECT_TRUE(in >> time >> what >> first >> count >> thread) << event;
    kinds.insert(what);
    if (what == "visited") continue;
    for (std::uint64_t page = first; page < first + count; ++page) {
      EXPECT_TRUE(known.count(page)) << event;
      if (what == "closed" || what == "made") closed.insert(page);
      if (what == "made") made.insert(page);
      if (what == "opened" || what == "trapped" || what == "clean") {
        EXPECT_TRUE(closed.count(page)) << event;
        made.erase(page);
      }
    }
  }
  EXPECT_TRUE(made.empty()) << made.size() << " pages were never opened";
  return kinds;
}

TEST_F(CollectionsCommand, ReplaysACycleEventByEvent) {
  make();
  std::set<std::string> kinds;
  const json summary = told(0);
  for (const json& cycle : summary.at("heaps").at(0).at("cycles")) {
    const std::uint64_t number = cycle.at("number");
    const json all = told(0, {"--cycle", std::to_string(number)});
    const json& replay = all.at("heaps").at(0).at("replay");
    EXPECT_EQ(replay.at("number"), number);
    EXPECT_EQ(replay.at("events").size(), cycle.at("page_events"));
    kinds.merge(check_replay(replay));
  }
  for (const char* const what : {"closed", "made", "scan"}) EXPECT_TRUE(kinds.count(what)) << what;
  EXPECT_TRUE(kinds.count("opened") + kinds.count("trapped"));
  expect_refusal(2, "EINVAL", "no such cycle", {"--cycle", "99999"});
}

TEST_F(CollectionsCommand, TrapsOfTheMprotectSupplyAreThereToo) {
  make(kKinds, 1 << 18, gc::PageSupply::mprotect);
  const json heap = told(0).at("heaps").at(0);
  EXPECT_GE(heap.at("cycles").size(), 3U);
  EXPECT_EQ(heap.at("flips").at("count"), heap.at("cycles").size());
}

TEST_F(CollectionsCommand, SaysWhatIsMissing) {
  make("flip,pause");
  const Ran ran = run();
  EXPECT_EQ(ran.status, 0);
  EXPECT_THAT(ran.output, HasSubstr("traps (fault)"));
  EXPECT_THAT(ran.output, HasSubstr("pages (close,scan,open,pin)"));
  for (const std::vector<std::string>& options :
       {std::vector<std::string>{"--map"}, {"--cycle", "2"}, {"--cycle", "99999"}})
    expect_refusal(2, "EINVAL", "it has no pages: trace close,scan,open,pin too", options);
}

TEST_F(CollectionsCommand, TellsOfARingThatWentRound) {
  make(kKinds, 64);
  const json all = told(0);
  EXPECT_EQ(all.at("events"), 64);
  EXPECT_GT(all.at("overwritten"), 100);
  EXPECT_THAT(run().output, HasSubstr("PAGETRAP_TRACE_EVENTS"));
}

TEST_F(CollectionsCommand, EventsThatWereBeingWrittenAreCountedAndLeftOut) {
  make("flip,pause,cycle");
  std::string torn = contents();
  const std::uint64_t all = told(0).at("events");
  // The third one's number is written last.
  std::memset(torn.data() + 4096 + 3 * sizeof(trace::Event), 0, 8);
  write(torn);
  const json rest = told(0);
  EXPECT_EQ(rest.at("unfinished"), 1);
  EXPECT_EQ(rest.at("events"), all - 1);
  EXPECT_THAT(run().output, HasSubstr("1 are not complete"));
}

TEST_F(CollectionsCommand, NamesThePlaceOfATornEvent) {
  make("flip,pause,cycle");
  std::string torn = contents();
  const std::size_t place = 4096 + 3 * sizeof(trace::Event);
  torn.at(place) = static_cast<char>(torn.at(place) ^ 4);
  write(torn);
  expect_refusal(1, "EBADMSG", "an event has another's number");
  EXPECT_EQ(told(1).at("error").at("position"), place);
}

TEST_F(CollectionsCommand, RefusesFilesThatAreNoTrace) {
  write("");
  expect_refusal(1, "EBADMSG", "too short for a trace file");
  write(std::string(100'000, 'a'));
  expect_refusal(1, "EBADMSG", "this is not a trace file");
  std::filesystem::remove(file_);
  expect_refusal(3, "ENOENT", "No such file");
  file_ = folder_.string();
  expect_refusal(3, "EISDIR", "directory");
}

TEST_F(CollectionsCommand, RefusesAHeaderThatMakesNoSense) {
  make("flip,pause,cycle", 64);
  const std::string whole = contents();
  write(whole.substr(0, whole.size() - 1));
  expect_refusal(1, "EBADMSG", "the file has been cut short");
  const auto with = [&](std::size_t place, char byte) {
    std::string changed = whole;
    changed.at(place) = byte;
    write(changed);
  };
  with(8, 2);
  expect_refusal(3, "EPROTO", "another version");
  with(12, 41);
  expect_refusal(1, "EBADMSG", "another size");
  with(16, 65);
  expect_refusal(1, "EBADMSG", "not a power of two");
  with(23, 1);
  expect_refusal(1, "EBADMSG", "not a power of two");
  // So many events that none has the number that it should.
  with(31, 64);
  EXPECT_NE(run().status, 0);
}

TEST_F(CollectionsCommand, RefusesATraceThatTellsOfNoHeap) {
  make("protect");
  expect_refusal(1, "ENODATA", "PAGETRAP_TRACE=fault,flip,pause");
}

TEST_F(CollectionsCommand, RefusesWhatItDoesNotKnow) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"collections"},
        {"collections", file_, "--cycle", "first"},
        {"collections", file_, "--cycle", "-1"},
        {"collections", file_, "--map", "--frames", "1"}}) {
    const Ran ran = run_command(arguments);
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.errors, HasSubstr("--help"));
  }
}

}  // namespace
}  // namespace pagetrap::tool::test
