#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include "sys/fault_ring.hpp"
#include "sys/injection.hpp"
#include "sys/mapping.hpp"
#include "sys/signal_frame.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/tasks.hpp"

namespace pagetrap::sys {
namespace {

Mapping page(int prot) {
  Mapping::Request request;
  request.size_bytes = page_size();
  request.prot = prot;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  return Mapping::create(request).value();
}

TEST(Mapping, AlignsAndKeepsNothingBesideItsRange) {
  Mapping::Request request;
  request.size_bytes = 3 * page_size();
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  request.alignment = 1_GiB;
  const auto mapping = Mapping::create(request).value();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(mapping.data()) % 1_GiB, 0U);
  std::memset(mapping.data(), 1, 3 * page_size());
  // The page after is not ours: mincore says ENOMEM for what is not mapped (or it is a stranger's).
  EXPECT_EQ(mapping.range().length, Pages{3});
}

TEST(Mapping, RefusesAnAddressThatIsTaken) {
  const Mapping taken = page(PROT_READ);
  Mapping::Request request;
  request.size_bytes = page_size();
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  request.address = taken.data();
  const auto second = Mapping::create(request);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().number, EEXIST);
}

TEST(Mapping, RefusesTheImpossible) {
  Mapping::Request request;
  request.size_bytes = std::size_t{1} << 60;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  const auto mapping = Mapping::create(request);
  ASSERT_FALSE(mapping);
  EXPECT_EQ(mapping.error().number, ENOMEM);
}

TEST(Calls, LeaveErrnoAlone) {
  errno = 77;
  EXPECT_EQ(change_protection({reinterpret_cast<std::byte*>(page_size()), Pages{1}}, PROT_READ),
            ENOMEM);
  EXPECT_EQ(errno, 77);
  EXPECT_NE(uffd_wake(-1, {nullptr, Pages{1}}), 0);
  EXPECT_EQ(errno, 77);
}

TEST(Calls, CountDoneIsNeverANegativeErrno) {
  std::size_t done = 99;
  EXPECT_EQ(uffd_copy(-1, {nullptr, Pages{1}}, nullptr, 0, done), EBADF);
  EXPECT_EQ(done, 0U);
}

TEST(Calls, ReadOwnMemoryTellsWhatCannotBeRead) {
  const Mapping closed = page(PROT_NONE);
  std::uint64_t word = 5;
  std::uint64_t copy = 0;
  EXPECT_TRUE(read_own_memory(&word, &copy, sizeof copy));
  EXPECT_EQ(copy, 5U);
  EXPECT_FALSE(read_own_memory(closed.data(), &copy, sizeof copy));
}

TEST(Injection, FailsTheCallsItWasAskedFor) {
  const Mapping mine = page(PROT_READ);
  inject(Call::mprotect, EAGAIN, 1, 2);
  EXPECT_EQ(change_protection(mine.range(), PROT_READ), 0);
  EXPECT_EQ(change_protection(mine.range(), PROT_READ), EAGAIN);
  EXPECT_EQ(advise(mine.range(), MADV_NORMAL), 0);
  EXPECT_EQ(change_protection(mine.range(), PROT_READ), EAGAIN);
  EXPECT_EQ(change_protection(mine.range(), PROT_READ), 0);
  inject(Call::none, 0);
}

TEST(Tasks, ListsEveryThread) {
  std::atomic<bool> stop{false};
  std::atomic<pid_t> child{0};
  std::thread other([&] {
    child = thread_id();
    while (!stop) std::this_thread::yield();
  });
  while (child == 0) std::this_thread::yield();
  const auto threads = list_threads().value();
  EXPECT_NE(std::find(threads.begin(), threads.end(), thread_id()), threads.end());
  EXPECT_NE(std::find(threads.begin(), threads.end(), child.load()), threads.end());
  EXPECT_FALSE(thread_is_gone(child));
  stop = true;
  other.join();
  // The kernel may take a moment to forget a joined thread.
  for (int i = 0; i < 1000 && !thread_is_gone(child); ++i) std::this_thread::yield();
  EXPECT_TRUE(thread_is_gone(child));
}

volatile bool g_write = false;  // the compiler sees no call between a store and its fault
volatile bool g_translated = false;
void remember(int, siginfo_t* info, void* context) {
  const FrameFacts facts = frame_facts(context);
  g_write = facts.write;
  g_translated = facts.translated;
  ::mprotect(page_of(info->si_addr).base, page_size(), PROT_READ | PROT_WRITE);
}

TEST(SignalFrame, TellsReadsFromWrites) {
  struct sigaction action {};
  struct sigaction old {};
  action.sa_sigaction = remember;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGSEGV, &action, &old);
  const Mapping mine = page(PROT_READ | PROT_WRITE);
  auto* const byte = reinterpret_cast<volatile char*>(mine.data());
  *byte = 1;
  ::mprotect(mine.data(), page_size(), PROT_NONE);
  static_cast<void>(*byte);
  EXPECT_FALSE(g_write);
  ::mprotect(mine.data(), page_size(), PROT_READ);
  *byte = 2;
  EXPECT_TRUE(g_write);
  EXPECT_TRUE(g_translated);
  ::sigaction(SIGSEGV, &old, nullptr);
}

TEST(FaultRing, SeesTheFaultsOfAllThreads) {
  auto ring = FaultRing::open();
  if (!ring) GTEST_SKIP() << describe(ring.error());
  std::vector<std::byte*> before;
  ring->drain(before);
  const Mapping mine = page(PROT_READ | PROT_WRITE);
  const Mapping theirs = page(PROT_READ | PROT_WRITE);
  *mine.data() = std::byte{1};
  std::thread([&] { *theirs.data() = std::byte{1}; }).join();
  std::vector<std::byte*> seen;
  const std::size_t samples = ring->drain(seen);
  EXPECT_EQ(samples, seen.size());
  const auto has = [&](const Mapping& wanted) {
    return std::any_of(seen.begin(), seen.end(),
                       [&](std::byte* address) { return wanted.range().contains(address); });
  };
  EXPECT_TRUE(has(mine));
  EXPECT_TRUE(has(theirs));
  EXPECT_FALSE(ring->lost());
}

}  // namespace
}  // namespace pagetrap::sys
