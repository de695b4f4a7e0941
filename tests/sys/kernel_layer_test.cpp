// The thin layer over the kernel.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "sys/fd.hpp"
#include "sys/frame_layout.hpp"
#include "sys/injection.hpp"
#include "sys/mapping.hpp"
#include "sys/signal_frame.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/tasks.hpp"

namespace pagetrap::sys {
namespace {

bool is_open(int descriptor) { return ::fcntl(descriptor, F_GETFD) >= 0; }
bool is_mapped(const void* address) {
  unsigned char ignored = 0;
  return ::mincore(page_of(address).base, page_size(), &ignored) == 0;
}

TEST(Descriptor, ClosesWhatItOwns) {
  const int number = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  {
    Descriptor first(number);
    EXPECT_TRUE(first.valid());
    Descriptor second(std::move(first));
    EXPECT_FALSE(first.valid());  // NOLINT(bugprone-use-after-move): that is the question
    Descriptor third;
    third = std::move(second);
    EXPECT_EQ(third.get(), number);
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
  Descriptor kept(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int released = kept.release();
  EXPECT_FALSE(kept.valid());
  EXPECT_TRUE(is_open(released));
  ::close(released);
}

TEST(Mapping, IsAlignedAndLeavesNothingAround) {
  for (std::size_t alignment = page_size(); alignment <= 1_GiB; alignment *= 8) {
    Mapping::Request request;
    request.size_bytes = 3 * page_size();
    request.prot = PROT_READ | PROT_WRITE;
    request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
    request.alignment = alignment;
    std::byte* base = nullptr;
    {
      const auto mapping = Mapping::create(request);
      ASSERT_TRUE(mapping);
      base = mapping->data();
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(base) % alignment, 0U);
      EXPECT_EQ(mapping->range().length, Pages{3});
      std::memset(base, 1, request.size_bytes);
    }
    EXPECT_FALSE(is_mapped(base));
  }
}

TEST(Mapping, AlignedFilesStartAtTheirOffset) {
  const Descriptor file(::memfd_create("mapping", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(8 * page_size())), 0);
  const std::uint64_t mark = 0x1234;
  ASSERT_EQ(::pwrite(file.get(), &mark, sizeof mark, static_cast<off_t>(2 * page_size())),
            static_cast<ssize_t>(sizeof mark));
  Mapping::Request request;
  request.size_bytes = 4 * page_size();
  request.prot = PROT_READ;
  request.flags = MAP_SHARED;
  request.descriptor = file.get();
  request.offset = 2 * page_size();
  request.alignment = 2_MiB;
  const auto mapping = Mapping::create(request);
  ASSERT_TRUE(mapping);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(mapping->data()) % 2_MiB, 0U);
  EXPECT_EQ(*reinterpret_cast<const std::uint64_t*>(mapping->data()), mark);
}

TEST(Mapping, FixedPlacesAreNeverReplaced) {
  Mapping::Request request;
  request.size_bytes = page_size();
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  auto first = Mapping::create(request);
  ASSERT_TRUE(first);
  *first->data() = std::byte{7};
  request.address = first->data();
  const auto second = Mapping::create(request);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().number, EEXIST);
  EXPECT_EQ(*first->data(), std::byte{7});
  first->reset();
  const auto third = Mapping::create(request);
  ASSERT_TRUE(third);
  EXPECT_EQ(third->data(), request.address);
}

TEST(Mapping, MovesItsOwnership) {
  Mapping::Request request;
  request.size_bytes = page_size();
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  Mapping first = Mapping::create(request).value();
  Mapping second = Mapping::create(request).value();
  std::byte* const old = second.data();
  std::byte* const kept = first.data();
  second = std::move(first);
  EXPECT_FALSE(is_mapped(old));
  EXPECT_EQ(second.data(), kept);
  const PageRange released = second.release();
  EXPECT_TRUE(second.range().empty());
  EXPECT_TRUE(is_mapped(released.base));
  ::munmap(released.base, released.size_bytes());
}

TEST(Tasks, ListsEveryThread) {
  const auto mine = list_threads();
  ASSERT_TRUE(mine);
  const std::size_t before = mine->size();
  std::atomic<bool> stop{false};
  std::array<std::atomic<pid_t>, 6> ids{};
  std::vector<std::thread> threads;
  for (auto& id : ids) {
    threads.emplace_back([&] {
      id.store(thread_id());
      while (!stop.load()) std::this_thread::yield();
    });
  }
  for (auto& id : ids)
    while (id.load() == 0) std::this_thread::yield();
  const auto all = list_threads();
  ASSERT_TRUE(all);
  EXPECT_EQ(all->size(), before + ids.size());
  for (auto& id : ids) EXPECT_EQ(std::count(all->begin(), all->end(), id.load()), 1);
  EXPECT_EQ(std::count(all->begin(), all->end(), thread_id()), 1);
  EXPECT_FALSE(thread_is_gone(ids[0].load()));
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  for (auto& id : ids)
    while (!thread_is_gone(id.load())) std::this_thread::yield();
  EXPECT_FALSE(thread_is_gone(thread_id()));
}

TEST(Tasks, ListIsCompleteWhileThreadsComeAndGo) {
  std::atomic<bool> stop{false};
  std::atomic<pid_t> steady{0};
  std::thread stays([&] {
    steady.store(thread_id());
    while (!stop.load()) std::this_thread::yield();
  });
  std::thread breeder([&] {
    while (!stop.load()) std::thread([] {}).join();
  });
  while (steady.load() == 0) std::this_thread::yield();
  for (unsigned round = 0; round < 300; ++round) {
    const auto all = list_threads();
    ASSERT_TRUE(all);
    ASSERT_EQ(std::count(all->begin(), all->end(), steady.load()), 1);
    ASSERT_EQ(std::count(all->begin(), all->end(), thread_id()), 1);
  }
  stop.store(true);
  stays.join();
  breeder.join();
}

// --- What a signal frame tells

FrameFacts g_facts;
std::uintptr_t g_stack_pointer = 0;
sigjmp_buf g_back;

void remember(int, siginfo_t*, void* context) {
  g_facts = frame_facts(context);
  g_stack_pointer = interrupted_stack_pointer(context);
  ::siglongjmp(g_back, 1);
}

class SignalFrame : public testing::Test {
 protected:
  void SetUp() override {
    struct sigaction action {};
    action.sa_sigaction = remember;
    action.sa_flags = SA_SIGINFO;
    ASSERT_EQ(::sigaction(SIGSEGV, &action, &old_segv_), 0);
    ASSERT_EQ(::sigaction(SIGBUS, &action, &old_bus_), 0);
  }
  void TearDown() override {
    ::sigaction(SIGSEGV, &old_segv_, nullptr);
    ::sigaction(SIGBUS, &old_bus_, nullptr);
  }
  static bool faults(std::byte* at, bool write) {
    g_facts = {!write, false};
    if (sigsetjmp(g_back, 1) != 0) return true;
    if (write) {
      *reinterpret_cast<volatile char*>(at) = 1;
    } else {
      static_cast<void>(*reinterpret_cast<volatile char*>(at));
    }
    return false;
  }
  struct sigaction old_segv_ {};
  struct sigaction old_bus_ {};
};

TEST_F(SignalFrame, TellsWritesFromReads) {
  Mapping::Request request;
  request.size_bytes = page_size();
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  const auto page = Mapping::create(request);
  ASSERT_TRUE(page);
  *reinterpret_cast<volatile char*>(page->data()) = 1;
  ASSERT_EQ(change_protection(page->range(), PROT_NONE), 0);
  ASSERT_TRUE(faults(page->data() + 5, false));
  EXPECT_FALSE(g_facts.write);
  ASSERT_TRUE(faults(page->data() + 5, true));
  EXPECT_TRUE(g_facts.write);
  ASSERT_EQ(change_protection(page->range(), PROT_READ), 0);
  EXPECT_FALSE(faults(page->data() + 5, false));
  ASSERT_TRUE(faults(page->data() + 5, true));
  EXPECT_TRUE(g_facts.write);
  EXPECT_TRUE(g_facts.translated);
  // Of the frame that was interrupted: this function's, more or less.
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  if (g_stack_pointer != 0) {
    EXPECT_LT(here > g_stack_pointer ? here - g_stack_pointer : g_stack_pointer - here, 1_MiB);
  }
}

TEST_F(SignalFrame, TellsWhereNothingWas) {
  Mapping::Request request;
  request.size_bytes = page_size();
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  auto page = Mapping::create(request);
  ASSERT_TRUE(page);
  std::byte* const at = page->data();
  page->reset();
  ASSERT_TRUE(faults(at, true));
  EXPECT_TRUE(g_facts.write);
  EXPECT_FALSE(g_facts.translated);
}

// --- Signal-safe calls

TEST(OwnMemory, IsReadOrNot) {
  const std::array<char, 6> from = {"hello"};
  std::array<char, 6> to{};
  EXPECT_TRUE(read_own_memory(from.data(), to.data(), from.size()));
  EXPECT_EQ(from, to);
  errno = ELOOP;
  EXPECT_FALSE(read_own_memory(nullptr, to.data(), 4));
  EXPECT_EQ(errno, ELOOP);
  Mapping::Request request;
  request.size_bytes = 2 * page_size();
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  const auto pages = Mapping::create(request);
  ASSERT_TRUE(pages);
  ASSERT_EQ(change_protection({pages->data() + page_size(), Pages{1}}, PROT_NONE), 0);
  EXPECT_TRUE(read_own_memory(pages->data() + page_size() - 8, to.data(), 6));
  EXPECT_FALSE(read_own_memory(pages->data() + page_size() - 4, to.data(), 6));  // half of it
}

TEST(Calls, LeaveErrnoAloneAndReturnIt) {
  Mapping::Request request;
  request.size_bytes = page_size();
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  auto page = Mapping::create(request);
  ASSERT_TRUE(page);
  const PageRange gone = page->range();
  page->reset();
  std::size_t done = 77;
  const PageRange unaligned{gone.base + 1, Pages{1}};
  errno = ELOOP;
  EXPECT_EQ(change_protection(gone, PROT_READ), ENOMEM);
  EXPECT_EQ(advise(gone, MADV_DONTNEED), ENOMEM);
  EXPECT_EQ(advise(unaligned, MADV_DONTNEED), EINVAL);
  EXPECT_EQ(uffd_copy(-1, gone, gone.base, 0, done), EBADF);
  EXPECT_EQ(done, 0U);
  EXPECT_EQ(uffd_zero(-1, gone, done), EBADF);
  EXPECT_EQ(uffd_continue(-1, gone, 0, done), EBADF);
  EXPECT_EQ(uffd_move(-1, gone, gone.base, 0, done), EBADF);
  EXPECT_EQ(uffd_write_protect(-1, gone, true), EBADF);
  EXPECT_EQ(uffd_wake(-1, gone), EBADF);
  EXPECT_EQ(punch_hole(-1, 0, page_size()), EBADF);
  EXPECT_EQ(pwrite_all(-1, &done, sizeof done, 0), EBADF);
  EXPECT_EQ(write_all(-1, "x", 1), EBADF);
  EXPECT_EQ(signal_thread(0x7fffffff, SIGUSR1, 0), ESRCH);
  EXPECT_FALSE(in_core(gone));
  EXPECT_EQ(errno, ELOOP);
}

TEST(Calls, ErrnoSaver) {
  errno = ENOENT;
  {
    const ErrnoSaver saver;
    errno = EIO;
  }
  EXPECT_EQ(errno, ENOENT);
}

TEST(Calls, AllSignalsBlockedForAScope) {
  sigset_t inside;
  sigset_t before;
  sigset_t after;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
  {
    const AllSignalsBlocked blocked;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &inside);
  }
  ::pthread_sigmask(SIG_SETMASK, nullptr, &after);
  for (const int signal : {SIGINT, SIGUSR1, SIGSEGV, SIGRTMAX - 1}) {
    EXPECT_EQ(::sigismember(&inside, signal), 1);
    EXPECT_EQ(::sigismember(&after, signal), ::sigismember(&before, signal));
  }
}

TEST(Calls, FutexWakesAndLooksAgain) {
  std::atomic<std::uint32_t> word{1};
  futex_wait(word, 0);  // the word differs: returns at once
  futex_wait(word, 1, 1'000'000);
  std::thread waiter([&] {
    while (word.load() == 1) futex_wait(word, 1);
  });
  word.store(2);
  futex_wake_all(word);
  waiter.join();
}

TEST(Calls, PwriteAll) {
  const Descriptor file(::memfd_create("pwrite", MFD_CLOEXEC));
  EXPECT_EQ(pwrite_all(file.get(), "abc", 3, 10), 0);
  std::array<char, 3> back{};
  EXPECT_EQ(::pread(file.get(), back.data(), 3, 10), 3);
  EXPECT_EQ(std::memcmp(back.data(), "abc", 3), 0);
}

TEST(Injected, FailsExactlyTheCallsAskedFor) {
  Mapping::Request request;
  request.size_bytes = page_size();
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  const auto page = Mapping::create(request);
  ASSERT_TRUE(page);
  inject(Call::mprotect, EAGAIN, 2, 3);
  std::array<int, 8> errors{};
  for (int& error : errors) error = change_protection(page->range(), PROT_READ);
  EXPECT_EQ(errors, (std::array<int, 8>{0, 0, EAGAIN, EAGAIN, EAGAIN, 0, 0, 0}));
  inject(Call::mprotect, ENOMEM);
  EXPECT_EQ(advise(page->range(), MADV_DONTNEED), 0);  // another call
  inject(Call::none, 0);
  EXPECT_EQ(change_protection(page->range(), PROT_READ), 0);
}

}  // namespace
}  // namespace pagetrap::sys
