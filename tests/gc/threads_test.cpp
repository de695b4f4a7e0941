// Threads: attaching, stopping, waiting; and system calls with buffers in the heap.
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include <pagetrap/gc/gc.hpp>
#include <pagetrap/vm/signals.hpp>

#include "gc/supplies.hpp"

namespace pagetrap {
namespace {

struct Link : gc::object<Link> {
  gc::ref<Link> next;
  std::uint64_t value = 0;
  static constexpr auto members = gc::members(&Link::next);
};

/// A buffer beside a reference: lives where pages are closed.
struct Message : gc::object<Message> {
  gc::ref<Link> sender;
  std::array<char, 256> bytes{};
  static constexpr auto members = gc::members(&Message::sender);
};

struct Wide : gc::leaf<Wide> {
  std::array<std::uint64_t, 8> words{};
};

class GcThreads : public testing::TestWithParam<gc::PageSupply> {
 protected:
  static gc::Options small() {
    gc::Options options;
    options.supply = GetParam();
    options.nursery_bytes = 256_KiB;
    options.limit_bytes = 256_MiB;
    return options;
  }
};

std::uint64_t sum(const Link* list) {
  std::uint64_t all = 0;
  for (; list != nullptr; list = list->next) all += list->value;
  return all;
}

Link* make_list(gc::Heap& heap, std::uint64_t length) {
  Link* list = nullptr;
  for (std::uint64_t i = 1; i <= length; ++i) list = heap.make<Link>(list, i);
  return list;
}

TEST_P(GcThreads, MakeNeedsAnAttachedThread) {
  gc::Heap heap(small());
  EXPECT_THROW(heap.make<Link>(), SystemError);
  { gc::Mutator here(heap); }
  EXPECT_THROW(heap.make<Link>(), SystemError);
  gc::Mutator again(heap);
  EXPECT_NE(heap.make<Link>(), nullptr);
}

TEST_P(GcThreads, ComeAndGoWhileOthersCollect) {
  gc::Heap heap(small());
  std::atomic<bool> done{false};
  std::thread collecting([&] {
    while (!done.load()) heap.collect(true);
  });
  std::vector<std::thread> threads;
  std::atomic<std::uint64_t> wrong{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 60; ++i) {
        gc::Mutator here(heap);
        gc::root<Link> list(heap, make_list(heap, 1000));
        if (sum(list) != 500500) ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  done = true;
  collecting.join();
  EXPECT_EQ(wrong, 0U);
}

// A list that only a register of a thread in a loop points to: the signal finds it there.
TEST_P(GcThreads, AThreadThatNeverCallsUsIsStoppedAndItsRegistersPin) {
  if (SANITIZED_THREADS != 0) GTEST_SKIP() << "no signal comes to a thread that calls nothing";
  gc::Heap heap(small());
  std::atomic<int> ready{0};
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      gc::Mutator here(heap);
      const Link* const list = make_list(heap, 300);
      ++ready;
      while (!done.load(std::memory_order_relaxed))
        if (sum(list) != 45150) ++wrong;
    });
  while (ready.load() != 3) std::this_thread::yield();
  for (int i = 0; i < 50; ++i) heap.collect(i % 2 == 0);
  done = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0U);
  EXPECT_GE(heap.statistics().cycles, 50U);
}

TEST_P(GcThreads, ABlockedThreadIsNotWaitedForAndKeepsWhatItsStackHas) {
  gc::Heap heap(small());
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  std::atomic<bool> ready{false};
  std::uint64_t found = 0;
  std::thread waiting([&] {
    // Blocks the stop signal too: nobody sends it.
    sigset_t all;
    ::sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS}) ::sigdelset(&all, fault);
    gc::Mutator here(heap);
    const Link* const list = make_list(heap, 1000);
    ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
    char byte = 0;
    const ssize_t got = here.blocking([&] {
      ready = true;
      return ::read(pipe[0], &byte, 1);
    });
    if (got == 1) found = sum(list);
  });
  while (!ready.load()) std::this_thread::yield();
  for (int i = 0; i < 20; ++i) heap.collect(true);
  ASSERT_EQ(::write(pipe[1], "x", 1), 1);
  waiting.join();
  EXPECT_EQ(found, 500500U);
  ::close(pipe[0]);
  ::close(pipe[1]);
}

// By read(2) and, in odd rounds, recvmsg(2).
ssize_t receive(int socket, char* to, std::size_t size, int round) {
  if (round % 2 == 0) return ::read(socket, to, size);
  iovec part{to, size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  return ::recvmsg(socket, &message, 0);
}

// bdwgc's most reported defect: EFAULT, or lost bytes, because of a collection.
TEST_P(GcThreads, SystemCallsFindBuffersThatTheStackPointsTo) {
  gc::Heap heap(small());
  std::array<int, 2> sockets{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, sockets.data()), 0);
  std::atomic<bool> done{false};
  std::thread collecting([&] {
    for (int i = 0; !done.load(); ++i) heap.collect(i % 4 == 0);
  });
  std::atomic<int> errors{0};
  constexpr int kRounds = 3000;
  std::thread echoing([&] {
    gc::Mutator here(heap);
    for (int i = 0; i < kRounds; ++i) {
      // Small and large leaves, by turns.
      auto* const buffer = heap.make_array<char>(i % 16 == 0 ? 9000 : 256);
      ssize_t got = 0;
      for (std::size_t at = 0; at < 256; at += static_cast<std::size_t>(got)) {
        got = receive(sockets[1], buffer->data() + at, 256 - at, i);
        if (got <= 0) return void(++errors);
      }
      if (::write(sockets[1], buffer->data(), 256) != 256) return void(++errors);
    }
  });
  std::uint64_t cycles = 0;
  {
    gc::Mutator here(heap);
    gc::root<Message> kept(heap, heap.make<Message>());
    for (int i = 0; i < kRounds && errors == 0; ++i) {
      Message* const message = kept;  // old after the first cycle, closed at each flip
      std::memset(message->bytes.data(), i & 0x7f, message->bytes.size());
      message->sender = heap.make<Link>(nullptr, static_cast<std::uint64_t>(i));
      if (::write(sockets[0], message->bytes.data(), 256) != 256) {
        ADD_FAILURE() << "write: " << std::strerror(errno) << " in round " << i;
        break;
      }
      std::memset(message->bytes.data(), 0, message->bytes.size());
      ssize_t got = 0;
      for (std::size_t at = 0; at < 256; at += static_cast<std::size_t>(got)) {
        got = receive(sockets[0], message->bytes.data() + at, 256 - at, i);
        if (got <= 0) {
          ADD_FAILURE() << "read: " << std::strerror(errno) << " in round " << i;
          ++errors;
          break;
        }
      }
      for (const char byte : message->bytes) ASSERT_EQ(byte, i & 0x7f) << i;
      ASSERT_EQ(message->sender->value, static_cast<std::uint64_t>(i));
    }
    ::shutdown(sockets[0], SHUT_RDWR);
    here.blocking([&] { echoing.join(); });
    cycles = heap.statistics().cycles;
  }
  done = true;
  collecting.join();
  EXPECT_EQ(errors, 0);
  EXPECT_GT(cycles, 10U);
  for (const int socket : sockets) ::close(socket);
}

// The trap's handler runs on the alternate stack then; the references that the interrupted code has
// are on its own, and in the signal's frame.
TEST_P(GcThreads, WithAnAlternateStack) {
  gc::Heap heap(small());
  std::vector<std::thread> threads;
  std::atomic<std::uint64_t> wrong{0};
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      ensure_alternate_stack().value();
      gc::Mutator here(heap);
      gc::root<Link> list(heap, make_list(heap, 3000));
      for (int i = 0; i < 60; ++i) {
        if (sum(list) != 4501500) ++wrong;
        list = make_list(heap, 3000);
      }
    });
  for (int i = 0; i < 100; ++i) heap.collect(i % 3 == 0);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0U);
}

TEST_P(GcThreads, TwoHeapsInOneThread) {
  gc::Heap first(small());
  gc::Heap second(small());
  gc::Mutator here(first);
  gc::root<Link> list(first, make_list(first, 5000));
  {
    gc::Mutator there(second);
    gc::root<Link> other(second, make_list(second, 5000));
    EXPECT_THROW(first.make<Link>(), SystemError);
    std::thread collecting([&] {
      for (int i = 0; i < 10; ++i) {
        first.collect();
        second.collect();
      }
    });
    for (int i = 0; i < 20; ++i) {
      ASSERT_EQ(sum(list), 12502500U);
      ASSERT_EQ(sum(other), 12502500U);
      make_list(second, 2000);
    }
    there.blocking([&] { collecting.join(); });
  }
  make_list(first, 50000);
  EXPECT_EQ(sum(list), 12502500U);
}

// Vector registers hold references for a moment when objects are copied.
TEST_P(GcThreads, CopiesOfReferencesByWideRegisters) {
  gc::Heap heap(small());
  std::atomic<bool> done{false};
  std::thread collecting([&] {
    while (!done.load()) heap.collect(false);
  });
  gc::Mutator here(heap);
  using Row = gc::array<gc::ref<Wide>>;
  gc::root<Row> row(heap, heap.make_array<gc::ref<Wide>>(64));
  for (std::size_t i = 0; i < 64; ++i) {
    (*row)[i] = heap.make<Wide>();
    (*row)[i]->words[3] = i;
  }
  for (int round = 0; round < 3000; ++round) {
    Row* const next = heap.make_array<gc::ref<Wide>>(64);
    std::memcpy(static_cast<void*>(next->data()), row->data(), 64 * sizeof(gc::ref<Wide>));
    row = next;
    for (std::size_t i = 0; i < 64; ++i) ASSERT_EQ((*row)[i]->words[3], i);
  }
  done = true;
  here.blocking([&] { collecting.join(); });
}

INSTANTIATE_TEST_SUITE_P(, GcThreads, testing::ValuesIn(tested_supplies()),
                         [](const auto& which) { return test_name(which.param); });

}  // namespace
}  // namespace pagetrap
