// The event ring. A process has one ring that never goes away: each test works in a child of its
// own, whose ring it configures first.
#include <pagetrap/trace/trace.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace pagetrap::trace {
namespace {

#define CHECK_IN_CHILD(condition)                                              \
  do {                                                                         \
    if (!(condition)) {                                                        \
      std::fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition);     \
      return 1;                                                                \
    }                                                                          \
  } while (false)

int run_in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(30);
    ::_exit(body());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

const void* address(std::uint64_t number) { return reinterpret_cast<const void*>(number); }

TEST(Trace, NamesEveryKind) {
  std::string all = ",";
  for (std::size_t i = 0; i < kKindCount; ++i) {
    const std::string word = name(static_cast<Kind>(i));
    EXPECT_NE(word, "unknown");
    EXPECT_EQ(all.find("," + word + ","), std::string::npos) << word << " twice";
    all += word + ",";
  }
  EXPECT_STREQ(name(static_cast<Kind>(kKindCount)), "unknown");
  EXPECT_EQ(run_in_child([&] {
              CHECK_IN_CHILD(configure(all));  // each name is understood
              for (std::size_t i = 0; i < kKindCount; ++i)
                CHECK_IN_CHILD(enabled(static_cast<Kind>(i)));
              return 0;
            }),
            0);
}

TEST(Trace, RecordsOnlyWhatIsOn) {
  EXPECT_EQ(run_in_child([] {
              CHECK_IN_CHILD(!enabled(Kind::fault));
              record(Kind::fault, address(1), 1);
              std::vector<Event> events(8);
              CHECK_IN_CHILD(snapshot(events) == 0);
              CHECK_IN_CHILD(configure("protect,,lift", 16));
              CHECK_IN_CHILD(!enabled(Kind::fault));
              CHECK_IN_CHILD(enabled(Kind::protect));
              CHECK_IN_CHILD(enabled(Kind::lift));
              record(Kind::fault, address(2), 2);
              record(Kind::protect, address(3), 33);
              record(Kind::lift, address(4), 44);
              CHECK_IN_CHILD(snapshot(events) == 2);
              CHECK_IN_CHILD(events[0].sequence == 1 && events[0].kind == Kind::protect);
              CHECK_IN_CHILD(events[0].address == 3 && events[0].detail == 33);
              CHECK_IN_CHILD(events[0].thread == static_cast<std::uint32_t>(::gettid()));
              CHECK_IN_CHILD(events[1].sequence == 2 && events[1].kind == Kind::lift);
              CHECK_IN_CHILD(events[1].nanoseconds >= events[0].nanoseconds);
              CHECK_IN_CHILD(configure(""));
              CHECK_IN_CHILD(!enabled(Kind::protect));
              record(Kind::protect, address(5), 5);
              CHECK_IN_CHILD(snapshot(events) == 2);
              CHECK_IN_CHILD(configure("all"));
              record(Kind::chain, address(6), 6);
              CHECK_IN_CHILD(snapshot(events) == 3);
              return 0;
            }),
            0);
}

TEST(Trace, KeepsTheNewestWhenFull) {
  EXPECT_EQ(run_in_child([] {
              CHECK_IN_CHILD(configure("fault", 100));  // rounded up to 128
              for (std::uint64_t i = 1; i <= 1000; ++i) record(Kind::fault, address(i), i * 2);
              std::vector<Event> events(1000);
              const std::size_t count = snapshot(events);
              CHECK_IN_CHILD(count == 128);
              for (std::size_t i = 0; i < count; ++i) {
                CHECK_IN_CHILD(events[i].sequence == 1000 - 128 + 1 + i);
                CHECK_IN_CHILD(events[i].address == events[i].sequence);
                CHECK_IN_CHILD(events[i].detail == 2 * events[i].sequence);
              }
              // A smaller buffer gets the newest.
              std::vector<Event> few(5);
              CHECK_IN_CHILD(snapshot(few) == 5);
              CHECK_IN_CHILD(few[0].sequence == 996 && few[4].sequence == 1000);
              CHECK_IN_CHILD(snapshot({}) == 0);
              return 0;
            }),
            0);
}

TEST(Trace, ConcurrentWritersMixNoEvents) {
  EXPECT_EQ(run_in_child([] {
              constexpr unsigned kThreads = 4;
              constexpr std::uint64_t kEach = 30'000;
              CHECK_IN_CHILD(configure("all", 1 << 17));
              std::vector<std::thread> threads;
              std::atomic<bool> stop{false};
              std::atomic<unsigned> wrong{0};
              const auto check = [&](const Event& event) {
                if (event.address != event.detail ||
                    event.kind != static_cast<Kind>(event.address % kKindCount))
                  wrong.fetch_add(1);
              };
              for (unsigned t = 0; t < kThreads; ++t) {
                threads.emplace_back([t] {
                  for (std::uint64_t i = 0; i < kEach; ++i) {
                    const std::uint64_t number = t * kEach + i + 1;
                    record(static_cast<Kind>(number % kKindCount), address(number), number);
                  }
                });
              }
              std::thread reader([&] {
                std::vector<Event> events(1 << 10);
                while (!stop.load()) {
                  const std::size_t count = snapshot(events);
                  for (std::size_t i = 0; i < count; ++i) check(events[i]);
                }
              });
              for (std::thread& thread : threads) thread.join();
              stop.store(true);
              reader.join();
              std::vector<Event> events(kThreads * kEach);
              CHECK_IN_CHILD(snapshot(events) == events.size());
              std::vector<bool> seen(kThreads * kEach + 1, false);
              for (std::size_t i = 0; i < events.size(); ++i) {
                check(events[i]);
                CHECK_IN_CHILD(events[i].sequence == i + 1);
                CHECK_IN_CHILD(!seen[events[i].address]);
                seen[events[i].address] = true;
              }
              CHECK_IN_CHILD(wrong.load() == 0);
              return 0;
            }),
            0);
}

TEST(Trace, RefusesUnknownKindsAndOtherRings) {
  EXPECT_EQ(run_in_child([] {
              for (const char* const bad : {"foult", "fault,", "fault,x", "FAULT", "fault protect"}) {
                const auto done = configure(bad, 16);
                const bool fine = std::string(bad) == "fault,";
                CHECK_IN_CHILD(static_cast<bool>(done) == fine);
                if (!fine) CHECK_IN_CHILD(done.error().number == EINVAL);
              }
              CHECK_IN_CHILD(enabled(Kind::fault));
              CHECK_IN_CHILD(!configure("nonsense"));
              CHECK_IN_CHILD(enabled(Kind::fault));  // as it was
              const auto other_size = configure("fault", 4096);
              CHECK_IN_CHILD(!other_size && other_size.error().number == EBUSY);
              const auto other_file = configure("fault", 0, "/tmp/pagetrap-other-ring");
              CHECK_IN_CHILD(!other_file && other_file.error().number == EBUSY);
              CHECK_IN_CHILD(configure("fault", 16));
              CHECK_IN_CHILD(configure("fault", 15));  // the same when rounded
              return 0;
            }),
            0);
}

TEST(Trace, FileErrorsAreReported) {
  EXPECT_EQ(run_in_child([] {
              const auto done = configure("all", 16, "/nonexistent/folder/trace");
              CHECK_IN_CHILD(!done && done.error().number == ENOENT);
              CHECK_IN_CHILD(!enabled(Kind::fault));
              CHECK_IN_CHILD(configure("all", 16));
              return 0;
            }),
            0);
}

TEST(Trace, ASignalHandlerMayRecord) {
  EXPECT_EQ(run_in_child([] {
              CHECK_IN_CHILD(configure("all", 1024));
              ::signal(SIGUSR1, [](int) { record(Kind::chain, address(9), 9); });
              for (unsigned i = 0; i < 100; ++i) {
                record(Kind::fault, address(1), 1);
                ::raise(SIGUSR1);
              }
              std::vector<Event> events(1024);
              CHECK_IN_CHILD(snapshot(events) == 200);
              return 0;
            }),
            0);
}

}  // namespace
}  // namespace pagetrap::trace
