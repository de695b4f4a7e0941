// The event ring. A process has one ring that never goes away: each test works in a child of its
// own, whose ring it configures first.
#include <pagetrap/trace/trace.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace pagetrap::trace {
namespace {

const void* at(std::uint64_t address) { return reinterpret_cast<const void*>(address); }

template <class Body>
void in_child(Body body) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::alarm(30);
    body();
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(Trace, NamesEveryKind) {
  std::string all = ",";
  for (std::size_t i = 0; i < kKindCount; ++i) {
    const std::string word = name(static_cast<Kind>(i));
    EXPECT_NE(word, "unknown");
    EXPECT_EQ(all.find("," + word + ","), std::string::npos) << word << " twice";
    all += word + ",";
  }
  EXPECT_STREQ(name(static_cast<Kind>(kKindCount)), "unknown");
  in_child([&] {
    ASSERT_TRUE(configure(all));  // each name is understood
    for (std::size_t i = 0; i < kKindCount; ++i) EXPECT_TRUE(enabled(static_cast<Kind>(i)));
  });
}

TEST(Trace, RecordsOnlyWhatIsOn) {
  in_child([] {
    EXPECT_FALSE(enabled(Kind::fault));
    record(Kind::fault, at(1), 1);
    std::array<Event, 8> events;
    ASSERT_EQ(snapshot(events), 0U);
    ASSERT_TRUE(configure("protect,,lift", 16));
    EXPECT_FALSE(enabled(Kind::fault));
    EXPECT_TRUE(enabled(Kind::protect));
    EXPECT_TRUE(enabled(Kind::lift));
    record(Kind::fault, at(2), 2);
    record(Kind::protect, at(3), 33);
    record(Kind::lift, at(4), 44);
    ASSERT_EQ(snapshot(events), 2U);
    EXPECT_EQ(events[0].sequence, 1U);
    EXPECT_EQ(events[0].kind, Kind::protect);
    EXPECT_EQ(events[0].address, 3U);
    EXPECT_EQ(events[0].detail, 33U);
    EXPECT_EQ(events[0].thread, static_cast<std::uint32_t>(::gettid()));
    EXPECT_EQ(events[1].sequence, 2U);
    EXPECT_EQ(events[1].kind, Kind::lift);
    EXPECT_EQ(events[1].address, 4U);
    EXPECT_EQ(events[1].detail, 44U);
    EXPECT_GE(events[1].nanoseconds, events[0].nanoseconds);
    ASSERT_TRUE(configure(""));
    EXPECT_FALSE(enabled(Kind::protect));
    record(Kind::protect, at(5), 5);
    EXPECT_EQ(snapshot(events), 2U);
    ASSERT_TRUE(configure("all"));
    record(Kind::chain, at(6), 6);
    EXPECT_EQ(snapshot(events), 3U);
  });
}

TEST(Trace, KeepsTheNewestWhenFull) {
  in_child([] {
    ASSERT_TRUE(configure("fault", 100));  // rounded up to 128
    for (std::uint64_t i = 1; i <= 1000; ++i) record(Kind::fault, at(i), i * 2);
    std::vector<Event> events(1000);
    ASSERT_EQ(snapshot(events), 128U);
    for (std::size_t i = 0; i < 128; ++i) {
      EXPECT_EQ(events[i].sequence, 1000 - 128 + 1 + i);
      EXPECT_EQ(events[i].address, events[i].sequence);
      EXPECT_EQ(events[i].detail, 2 * events[i].sequence);
    }
    // A smaller buffer gets the newest.
    std::array<Event, 5> few;
    ASSERT_EQ(snapshot(few), 5U);
    EXPECT_EQ(few[0].sequence, 996U);
    EXPECT_EQ(few[4].sequence, 1000U);
    EXPECT_EQ(snapshot({}), 0U);
  });
}

TEST(Trace, ConcurrentWritersMixNoEvents) {
  in_child([] {
    constexpr unsigned kThreads = 4;
    constexpr std::uint64_t kEach = 30'000;
    ASSERT_TRUE(configure("all", 1 << 17));
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
          const std::uint64_t number = t * kEach + i;
          record(static_cast<Kind>(number % kKindCount), at(number), number);
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
    ASSERT_EQ(snapshot(events), events.size());
    std::array<std::uint64_t, kThreads> next{};  // each thread's events are in its own order
    for (std::size_t i = 0; i < events.size(); ++i) {
      check(events[i]);
      ASSERT_EQ(events[i].sequence, i + 1);
      const std::uint64_t thread = events[i].address / kEach;
      ASSERT_LT(thread, kThreads);
      ASSERT_EQ(events[i].address % kEach, next[thread]++);
    }
    EXPECT_EQ(wrong.load(), 0U);
  });
}

TEST(Trace, RefusesUnknownKinds) {
  in_child([] {
    for (const char* const bad :
         {"nonsense", "fault,nonsense", "foult", "fault,x", "FAULT", "fault protect"}) {
      const auto done = configure(bad, 16);
      ASSERT_FALSE(done) << bad;
      EXPECT_EQ(done.error().number, EINVAL) << bad;
      EXPECT_FALSE(enabled(Kind::fault)) << bad;
    }
    EXPECT_TRUE(configure("fault,", 16));
    EXPECT_TRUE(enabled(Kind::fault));
    EXPECT_FALSE(configure("nonsense"));
    EXPECT_TRUE(enabled(Kind::fault));  // as it was
  });
}

TEST(Trace, RefusesToChangeARingThatIsThere) {
  in_child([] {
    ASSERT_TRUE(configure("fault", 16));
    for (const std::size_t size : {std::size_t{64}, std::size_t{4096}}) {
      const auto other_size = configure("all", size);
      ASSERT_FALSE(other_size);
      EXPECT_EQ(other_size.error().number, EBUSY);
    }
    const auto other_file = configure("fault", 0, "/tmp/pagetrap-other-ring");
    ASSERT_FALSE(other_file);
    EXPECT_EQ(other_file.error().number, EBUSY);
    EXPECT_TRUE(configure("fault", 16));
    EXPECT_TRUE(configure("fault", 15));  // the same when rounded
    EXPECT_TRUE(enabled(Kind::fault));
    EXPECT_TRUE(configure("", 0)) << "switching off needs no ring";
    EXPECT_FALSE(enabled(Kind::fault));
  });
}

TEST(Trace, FileOutlivesItsWriter) {
  const std::string path = testing::TempDir() + "pagetrap_trace_" + std::to_string(::getpid());
  in_child([&] {
    ASSERT_TRUE(configure("lift", 16, path));
    record(Kind::lift, at(0x5000), 42);
  });
  std::ifstream file(path, std::ios::binary);
  FileHeader header{};
  file.read(reinterpret_cast<char*>(&header), sizeof header);
  ASSERT_TRUE(file);
  EXPECT_EQ(std::memcmp(header.magic, "PTTRACE1", 8), 0);
  EXPECT_EQ(header.version, 1U);
  EXPECT_EQ(header.event_bytes, sizeof(Event));
  EXPECT_EQ(header.capacity, 16U);
  EXPECT_EQ(header.next, 1U);
  Event event;
  file.seekg(static_cast<std::streamoff>(4096 + header.next % header.capacity * sizeof event));
  file.read(reinterpret_cast<char*>(&event), sizeof event);
  EXPECT_EQ(event.kind, Kind::lift);
  EXPECT_EQ(event.address, 0x5000U);
  EXPECT_EQ(event.detail, 42U);
  std::remove(path.c_str());
}

TEST(Trace, FileErrorsAreReported) {
  in_child([] {
    const auto done = configure("all", 16, "/nonexistent/folder/trace");
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().number, ENOENT);
    EXPECT_FALSE(enabled(Kind::fault));
    EXPECT_TRUE(configure("all", 16));
  });
}

TEST(Trace, ASignalHandlerMayRecord) {
  in_child([] {
    ASSERT_TRUE(configure("all", 1024));
    ::signal(SIGUSR1, [](int) { record(Kind::chain, at(9), 9); });
    for (unsigned i = 0; i < 100; ++i) {
      record(Kind::fault, at(1), 1);
      ::raise(SIGUSR1);
    }
    std::vector<Event> events(1024);
    EXPECT_EQ(snapshot(events), 200U);
  });
}

}  // namespace
}  // namespace pagetrap::trace
