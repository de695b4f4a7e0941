#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <pagetrap/trace/trace.hpp>

namespace pagetrap::trace {
namespace {

const void* at(std::uintptr_t address) { return reinterpret_cast<const void*>(address); }

// A process has one ring for life: each test has a process.
template <class Body>
void in_child(Body body) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    body();
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
}

TEST(Trace, RecordsOnlyKindsThatAreOn) {
  in_child([] {
    ASSERT_TRUE(configure("fault,thaw", 16));
    EXPECT_TRUE(enabled(Kind::fault));
    EXPECT_FALSE(enabled(Kind::protect));
    record(Kind::fault, at(0x1000), 7);
    record(Kind::protect, at(0x2000), 8);
    record(Kind::thaw, at(0x3000), 9);
    std::array<Event, 16> events;
    ASSERT_EQ(snapshot(events), 2U);
    EXPECT_EQ(events[0].kind, Kind::fault);
    EXPECT_EQ(events[0].address, 0x1000U);
    EXPECT_EQ(events[0].detail, 7U);
    EXPECT_EQ(events[0].thread, static_cast<std::uint32_t>(::gettid()));
    EXPECT_EQ(events[1].kind, Kind::thaw);
    EXPECT_GE(events[1].nanoseconds, events[0].nanoseconds);
    EXPECT_LT(events[0].sequence, events[1].sequence);
  });
}

TEST(Trace, KeepsTheNewestWhenFull) {
  in_child([] {
    ASSERT_TRUE(configure("all", 8));
    for (std::uint64_t i = 0; i < 100; ++i) record(Kind::supply, at(i), i);
    std::array<Event, 64> events;
    ASSERT_EQ(snapshot(events), 8U);
    for (std::uint64_t i = 0; i < 8; ++i) EXPECT_EQ(events[i].detail, 92 + i);
  });
}

TEST(Trace, TakesEventsFromManyThreadsWhole) {
  in_child([] {
    ASSERT_TRUE(configure("all", 1 << 16));
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < 4; ++t)
      threads.emplace_back([t] {
        for (std::uint64_t i = 0; i < 5000; ++i) record(Kind::evict, at(t), t << 32 | i);
      });
    for (auto& thread : threads) thread.join();
    std::vector<Event> events(1 << 16);
    ASSERT_EQ(snapshot(events), 20000U);
    std::array<std::uint64_t, 4> next{};
    for (std::size_t i = 0; i < 20000; ++i) {
      const std::uint64_t thread = events[i].detail >> 32;
      ASSERT_LT(thread, 4U);
      EXPECT_EQ(events[i].address, thread);
      EXPECT_EQ(events[i].detail & 0xffffffff, next[thread]++);
    }
  });
}

TEST(Trace, RefusesUnknownKindsAndNamesThem) {
  in_child([] {
    const auto done = configure("fault,nonsense");
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().number, EINVAL);
    EXPECT_FALSE(enabled(Kind::fault));
  });
}

TEST(Trace, RefusesToChangeARingThatIsThere) {
  in_child([] {
    ASSERT_TRUE(configure("all", 8));
    const auto done = configure("all", 64);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().number, EBUSY);
    EXPECT_TRUE(configure("", 0)) << "switching off needs no ring";
    EXPECT_FALSE(enabled(Kind::fault));
  });
}

TEST(Trace, FileCanBeReadByAnotherProcess) {
  const std::string path = ::testing::TempDir() + "pagetrap_trace_" + std::to_string(::getpid());
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

TEST(Trace, FileThatCannotBeMadeIsAnError) {
  in_child([] {
    const auto done = configure("all", 8, "/no/such/folder/ring");
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().number, ENOENT);
  });
}

TEST(Trace, EveryKindHasAName) {
  for (std::size_t i = 0; i < kKindCount; ++i) EXPECT_STRNE(name(static_cast<Kind>(i)), "unknown");
  EXPECT_STREQ(name(static_cast<Kind>(kKindCount)), "unknown");
}

}  // namespace
}  // namespace pagetrap::trace
