#include "sys/signal_safe_calls.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include "support.hpp"
#include "sys/fd.hpp"

namespace pagetrap::sys {
namespace {

TEST(OwnMemory, IsReadOrNot) {
  const std::array<char, 6> from = {"hello"};
  std::array<char, 6> to{};
  EXPECT_TRUE(read_own_memory(from.data(), to.data(), from.size()));
  EXPECT_EQ(from, to);
  errno = ELOOP;
  EXPECT_FALSE(read_own_memory(nullptr, to.data(), 4));
  EXPECT_EQ(errno, ELOOP);
  const auto pages = Mapping::create(anonymous_pages(2, PROT_READ | PROT_WRITE));
  ASSERT_TRUE(pages);
  ASSERT_EQ(change_protection({pages->data() + page_size(), Pages{1}}, PROT_NONE), 0);
  EXPECT_TRUE(read_own_memory(pages->data() + page_size() - 8, to.data(), 6));
  EXPECT_FALSE(read_own_memory(pages->data() + page_size() - 4, to.data(), 6));  // half of it
  EXPECT_FALSE(read_own_memory(pages->data() + page_size(), to.data(), 6));
}

TEST(Calls, LeaveErrnoAloneAndReturnIt) {
  auto page = Mapping::create(anonymous_pages(1, PROT_NONE));
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

}  // namespace
}  // namespace pagetrap::sys
