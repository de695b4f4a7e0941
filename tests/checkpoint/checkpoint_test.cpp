// Saving: what is in an image, what goes wrong, who is disturbed.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <cstring>
#include <fstream>
#include <thread>

#include "checkpoint/slow_sink.hpp"
#include "checkpoint/support.hpp"
#include "sys/injection.hpp"

namespace pagetrap::checkpoint {
namespace {

constexpr std::size_t kHeap = std::size_t{8} << 20;

class Saves : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    CheckpointerOptions options = options_for(GetParam());
    auto made = Checkpointer::create(options);
    if (!made) GTEST_SKIP() << describe(made.error());
    checkpointer_.emplace(std::move(*made));
    set_way(*checkpointer_, GetParam());
    arena_ = checkpointer_->arena("heap", 2 * kHeap).value();
    heap_ = static_cast<unsigned char*>(arena_->resource()->allocate(kHeap, 4096));
    for (std::size_t i = 0; i < kHeap; ++i) heap_[i] = pattern(i);
  }
  static unsigned char pattern(std::size_t i) {
    return static_cast<unsigned char>(i * 7 + (i >> 12) + 1);
  }
  std::vector<unsigned char> saved_heap(const std::string& path) {
    const auto offset =
        static_cast<std::size_t>(reinterpret_cast<std::byte*>(heap_) - arena_->range().base);
    const auto all = contents(path, "heap", offset + kHeap);
    std::vector<unsigned char> heap(kHeap);
    std::memcpy(heap.data(), all.data() + offset, kHeap);
    return heap;
  }
  Result<Statistics> save(const std::string& path, const SaveOptions& how = {}) {
    auto sink = file_sink(path);
    if (!sink) return sink.error();
    return checkpointer_->checkpoint(**sink, how);
  }
  bool heap_is_whole() {
    for (std::size_t i = 0; i < kHeap; ++i)
      if (heap_[i] != pattern(i)) return false;
    return true;
  }
  std::optional<Checkpointer> checkpointer_;
  Arena* arena_ = nullptr;
  unsigned char* heap_ = nullptr;
  Folder folder_;
};

TEST_P(Saves, AnIncrementHasWhatWasWritten) {
  const auto full = save(folder_.file("a.ckpt"));
  ASSERT_TRUE(full) << describe(full.error());
  EXPECT_GE(full->pages_written + full->pages_duplicate, kHeap / page_size());
  EXPECT_EQ(full->parent, ImageId{});
  EXPECT_EQ(full->generation, 1U);
  for (std::size_t page = 3; page < kHeap / page_size(); page += 100) heap_[page * page_size()] = 1;
  std::memset(heap_ + 50 * page_size(), 0, page_size());
  const auto next = save(folder_.file("b.ckpt"));
  ASSERT_TRUE(next) << describe(next.error());
  EXPECT_EQ(next->generation, 2U);
  const std::vector<unsigned char> now(heap_, heap_ + kHeap);
  EXPECT_EQ(saved_heap(folder_.file("b.ckpt")), now);
  if (checkpointer_->tracks_writes()) {
    EXPECT_EQ(next->parent, full->id);
    // And the allocator's first pages.
    EXPECT_LE(next->pages_written, kHeap / page_size() / 100 + 1 + 4);
    EXPECT_GE(next->pages_zero, 1U);
    EXPECT_GE(next->pages_skipped_parent, kHeap / page_size() / 2);
  } else {
    EXPECT_EQ(next->parent, ImageId{});
  }
  SaveOptions all;
  all.full = true;
  EXPECT_EQ(save(folder_.file("c.ckpt"), all).value().parent, ImageId{});
  EXPECT_EQ(saved_heap(folder_.file("c.ckpt")), now);
}

// The same name again and again is a program's right, and an image that lost its parent is no
// image.
TEST_P(Saves, AnIncrementNeverReplacesItsParents) {
  Folder elsewhere;
  for (int i = 0; i < 3; ++i) {
    heap_[static_cast<std::size_t>(i)] ^= 1;
    ASSERT_TRUE(save(folder_.file("a.ckpt")));
    EXPECT_TRUE(verify(folder_.file("a.ckpt")));
    EXPECT_EQ(saved_heap(folder_.file("a.ckpt")),
              (std::vector<unsigned char>(heap_, heap_ + kHeap)));
  }
  ASSERT_TRUE(save(folder_.file("b.ckpt")));
  ASSERT_TRUE(save(elsewhere.file("c.ckpt")));
  EXPECT_TRUE(verify(elsewhere.file("c.ckpt")));
  ASSERT_TRUE(save(elsewhere.file("d.ckpt")));
  ASSERT_TRUE(save(elsewhere.file("c.ckpt")));
  EXPECT_TRUE(verify(elsewhere.file("c.ckpt")));
}

TEST_P(Saves, AFailedSaveHarmsNothingAndTheNextIsFull) {
  ASSERT_TRUE(save(folder_.file("a.ckpt")));
  heap_[kHeap / 2] ^= 1;
  SlowSink broken(file_sink(folder_.file("a.ckpt")).value(), ENOSPC);
  broken.let_go();
  const auto refused = checkpointer_->checkpoint(broken);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().number, ENOSPC);
  EXPECT_TRUE(broken.abandoned);
  EXPECT_FALSE(broken.committed);
  heap_[kHeap / 2] ^= 1;
  EXPECT_TRUE(heap_is_whole());
  EXPECT_TRUE(verify(folder_.file("a.ckpt")));
  const auto next = save(folder_.file("b.ckpt"));
  ASSERT_TRUE(next) << describe(next.error());
  EXPECT_EQ(next->parent, ImageId{});
  EXPECT_EQ(saved_heap(folder_.file("b.ckpt")), (std::vector<unsigned char>(heap_, heap_ + kHeap)));
}

TEST_P(Saves, ACancelledSaveIsAnError) {
  SaveOptions how;
  how.progress = [](std::uint64_t, std::uint64_t) { return false; };
  const auto refused = save(folder_.file("a.ckpt"), how);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().number, ECANCELED);
  EXPECT_FALSE(std::filesystem::exists(folder_.file("a.ckpt")));
  EXPECT_TRUE(heap_is_whole());
}

TEST_P(Saves, TheCutMayBeRefused) {
  for (const sys::Call call : {sys::Call::mremap, sys::Call::uffd_write_protect}) {
    sys::inject(call, ENOMEM);
    const auto refused = save(folder_.file("a.ckpt"));
    sys::inject(sys::Call::none, 0);
    if (refused) continue;  // the other cut's call
    EXPECT_EQ(refused.error().number, ENOMEM);
    EXPECT_TRUE(heap_is_whole());
    heap_[0] = pattern(0);
  }
  ASSERT_TRUE(save(folder_.file("b.ckpt")));
  EXPECT_TRUE(heap_is_whole());
}

// Whatever the scan, the way back or the wake-up refuse: an error, and nothing is lost.
TEST_P(Saves, ErrorsInTheMiddleGiveEverythingBack) {
  for (int skip = 0; skip < 20; ++skip) {
    sys::inject(sys::Call::pagemap_scan, ENOMEM, skip);
    const auto refused = save(folder_.file("a.ckpt"));
    sys::inject(sys::Call::none, 0);
    if (refused) continue;
    EXPECT_EQ(refused.error().number, ENOMEM) << describe(refused.error());
    EXPECT_TRUE(heap_is_whole()) << skip;
  }
  ASSERT_TRUE(save(folder_.file("b.ckpt")));
}

// The way back refused for a while: pages come by another way, or later; none is lost.
TEST_P(Saves, AWayBackThatIsRefusedLosesNothing) {
  for (const sys::Call call : {sys::Call::mremap, sys::Call::uffd_write_protect,
                               sys::Call::uffd_move, sys::Call::mprotect}) {
    for (const int skip : {1, 2, 5}) {
      sys::inject(call, ENOMEM, skip, 4);
      const auto saved = save(folder_.file("a.ckpt"));
      sys::inject(sys::Call::none, 0);
      EXPECT_TRUE(saved || saved.error().number == ENOMEM) << describe(saved.error());
      EXPECT_TRUE(heap_is_whole()) << static_cast<int>(call) << ' ' << skip;
      for (std::size_t i = 0; i < kHeap; i += page_size()) heap_[i] = pattern(i);
    }
  }
  ASSERT_TRUE(save(folder_.file("b.ckpt")));
  EXPECT_EQ(saved_heap(folder_.file("b.ckpt")), (std::vector<unsigned char>(heap_, heap_ + kHeap)));
}

// More refusals than there is patience: pages come back one by one, unprotected. What is written
// then has to be in the next increment, and what is written after a cut not in its image.
TEST_P(Saves, AfterManyRefusalsNothingIsTakenForProtected) {
  ASSERT_TRUE(save(folder_.file("0.ckpt")));
  for (std::size_t i = 0; i < kHeap; i += page_size()) heap_[i] ^= 0x40;
  sys::inject(sys::Call::mremap, ENOMEM, 1, 60);
  const auto refused = save(folder_.file("1.ckpt"));
  sys::inject(sys::Call::none, 0);
  EXPECT_TRUE(refused || refused.error().number == ENOMEM) << describe(refused.error());
  ASSERT_TRUE(save(folder_.file("2.ckpt")));
  for (std::size_t i = 0; i < kHeap; i += page_size()) heap_[i] ^= 0x20;
  ASSERT_TRUE(save(folder_.file("3.ckpt")));
  EXPECT_EQ(saved_heap(folder_.file("3.ckpt")), std::vector<unsigned char>(heap_, heap_ + kHeap));
  for (std::size_t i = 0; i < kHeap; i += page_size()) heap_[i] ^= 0x10;
  ASSERT_TRUE(save(folder_.file("4.ckpt")));
  EXPECT_EQ(saved_heap(folder_.file("4.ckpt")), std::vector<unsigned char>(heap_, heap_ + kHeap));
}

// The end of a lift that is refused is made up for before the next cut.
TEST_P(Saves, AnEndThatIsRefusedIsTriedAgain) {
  for (const unsigned skip : {0U, 1U, 2U, 3U, 5U, 8U, 13U}) {
    sys::inject(sys::Call::pagemap_scan, ENOMEM, static_cast<int>(skip), 1000);
    static_cast<void>(save(folder_.file("a.ckpt")));
    sys::inject(sys::Call::none, 0);
    ASSERT_TRUE(heap_is_whole()) << skip;
    heap_[skip * page_size()] = pattern(skip * page_size());
    const auto saved = save(folder_.file("b.ckpt"));  // little is open: no lift
    ASSERT_TRUE(saved) << describe(saved.error());
    ASSERT_TRUE(heap_is_whole()) << skip;
    EXPECT_EQ(saved_heap(folder_.file("b.ckpt")), std::vector<unsigned char>(heap_, heap_ + kHeap));
  }
}

// What was written before a cut whose image never came about is in the next one.
TEST_P(Saves, AHookThatThrowsAfterTheCutLosesNoWrite) {
  ASSERT_TRUE(save(folder_.file("0.ckpt")));
  for (std::size_t i = 0; i < kHeap; i += page_size()) heap_[i] ^= 0x40;
  Hooks hooks;
  hooks.after_cut = [] { throw std::runtime_error("hook"); };
  checkpointer_->set_hooks(hooks);
  auto sink = file_sink(folder_.file("1.ckpt")).value();
  EXPECT_THROW(static_cast<void>(checkpointer_->checkpoint(*sink)), std::runtime_error);
  checkpointer_->set_hooks({});
  ASSERT_TRUE(save(folder_.file("2.ckpt")));
  EXPECT_EQ(saved_heap(folder_.file("2.ckpt")), std::vector<unsigned char>(heap_, heap_ + kHeap));
}

// Without handler threads nothing is left for a system call to fail on, once a save is over,
// whether it came to its cut or not.
TEST_P(Saves, SystemCallsWorkAfterASaveThatDidNotHappen) {
  const std::vector<unsigned char> bytes(page_size(), 9);
  const std::string path = folder_.file("bytes");
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(file, 0);
  const auto all_can_be_read_into = [&] {
    std::size_t failed = 0;
    for (std::size_t page = 0; page < kHeap / page_size(); ++page)
      if (::pread(file, heap_ + page * page_size(), 8, 0) != 8) ++failed;
    return failed;
  };
  for (const bool before : {true, false}) {
    Hooks hooks;
    (before ? hooks.before_cut : hooks.after_cut) = [] { throw std::runtime_error("hook"); };
    checkpointer_->set_hooks(hooks);
    auto sink = file_sink(folder_.file("a.ckpt")).value();
    EXPECT_THROW(static_cast<void>(checkpointer_->checkpoint(*sink)), std::runtime_error);
    checkpointer_->set_hooks({});
    EXPECT_EQ(all_can_be_read_into(), 0U) << (before ? "before" : "after");
  }
  ASSERT_TRUE(save(folder_.file("b.ckpt")));
  EXPECT_EQ(all_can_be_read_into(), 0U);
  ::close(file);
}

// A timer's handler that touches the heap may come while a thread serves its own fault.
TEST_P(Saves, SignalHandlersMayTouchWhatIsBeingSaved) {
  static unsigned char* heap = nullptr;
  static std::atomic<std::size_t> next{0};
  heap = heap_;
  struct sigaction action {};
  action.sa_handler = [](int) {
    const std::size_t page = next.fetch_add(37) % (kHeap / 4096);
    heap[page * 4096 + 8] = static_cast<unsigned char>(page);
  };
  action.sa_flags = SA_RESTART;
  struct sigaction old {};
  ASSERT_EQ(::sigaction(SIGALRM, &action, &old), 0);
  const itimerval often{{0, 150}, {0, 150}};
  const itimerval never{};
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (std::size_t n = 0; !stop; ++n) heap_[n * 4099 % kHeap] = static_cast<unsigned char>(n);
  });
  ASSERT_EQ(::setitimer(ITIMER_REAL, &often, nullptr), 0);
  for (int i = 0; i < 15; ++i) {
    const auto saved = save(folder_.file("a.ckpt"));
    EXPECT_TRUE(saved) << describe(saved.error());
  }
  ASSERT_EQ(::setitimer(ITIMER_REAL, &never, nullptr), 0);
  stop = true;
  writer.join();
  ::sigaction(SIGALRM, &old, nullptr);
}

// At any instant of a save: the child has all of it, and makes checkpoints of its own.
TEST_P(Saves, ForksAllThroughASave) {
  std::atomic<bool> stop{false};
  std::thread saver([&] {
    while (!stop) {
      const auto saved = save(folder_.file("a.ckpt"));
      EXPECT_TRUE(saved) << describe(saved.error());
    }
  });
  for (unsigned i = 0; i < 24; ++i) {
    ::usleep(i * 391 % 5000);
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(20);
      for (std::size_t k = 0; k < kHeap; k += 64)
        if (heap_[k] != pattern(k)) ::_exit(1);
      for (std::size_t k = 0; k < kHeap; k += page_size()) heap_[k] = 3;
      auto own = file_sink(folder_.file("child.ckpt"));
      if (!own) ::_exit(2);
      if (const auto saved = checkpointer_->checkpoint(**own); !saved) {
        std::fprintf(stderr, "child: %s\n", describe(saved.error()).c_str());
        ::_exit(4);
      }
      ::_exit(heap_[page_size()] == 3 ? 0 : 3);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status << " in round " << i;
  }
  stop = true;
  saver.join();
  EXPECT_TRUE(heap_is_whole());
}

TEST_P(Saves, AHookThatThrowsLeavesNothingFrozen) {
  for (const bool before : {true, false}) {
    Hooks hooks;
    (before ? hooks.before_cut : hooks.after_cut) = [] { throw std::runtime_error("hook"); };
    checkpointer_->set_hooks(hooks);
    auto sink = file_sink(folder_.file("a.ckpt")).value();
    EXPECT_THROW(static_cast<void>(checkpointer_->checkpoint(*sink)), std::runtime_error);
    checkpointer_->set_hooks({});
    EXPECT_TRUE(heap_is_whole());
    heap_[kHeap - 1] = pattern(kHeap - 1);
    sink = file_sink(folder_.file("a.ckpt")).value();
    ASSERT_TRUE(checkpointer_->checkpoint(*sink));
  }
}

// Threads go on while the sink stands still, and the image is of the cut.
TEST_P(Saves, ThreadsGoOnWhileTheSinkStandsStill) {
  const std::vector<unsigned char> before(heap_, heap_ + kHeap);
  auto sink = std::make_unique<SlowSink>(file_sink(folder_.file("a.ckpt")).value());
  SlowSink& slow = *sink;
  auto saving = checkpointer_->checkpoint_async(std::move(sink));
  slow.wait_until_stopped();
  std::thread helper;
  if (checkpointer_->serves_kernel_accesses()) {
    // The only worker stands still: who is asleep in the kernel has to wait for it.
    helper = std::thread([&] {
      ::usleep(50'000);
      slow.let_go();
    });
  }
  // The last units are not saved yet; the buffers are enough for them.
  for (std::size_t i = kHeap / 2; i < kHeap; i += page_size()) heap_[i] = 0xaa;
  slow.let_go();
  if (helper.joinable()) helper.join();
  const auto saved = saving.get();
  ASSERT_TRUE(saved) << describe(saved.error());
  EXPECT_GT(saved->faults, 0U);
  EXPECT_EQ(saved_heap(folder_.file("a.ckpt")), before);
  for (std::size_t i = kHeap / 2; i < kHeap; i += page_size()) EXPECT_EQ(heap_[i], 0xaa);
}

TEST_P(Saves, HooksAndAllocationsDuringASave) {
  std::atomic<int> order{0};
  Hooks hooks;
  hooks.before_cut = [&] { EXPECT_EQ(order.exchange(1), 0); };
  hooks.after_cut = [&] {
    EXPECT_EQ(order.exchange(2), 1);
    heap_[5] = 77;  // may touch what is being saved
  };
  checkpointer_->set_hooks(hooks);
  std::atomic<bool> stop{false};
  std::thread allocates([&] {
    std::pmr::vector<std::pmr::vector<int>> many(arena_->resource());
    while (!stop) {
      many.emplace_back(1000, 7);
      if (many.size() > 500) many.clear();
    }
  });
  for (int i = 0; i < 20; ++i) {
    order = 0;
    const auto saved = save(folder_.file("a.ckpt"));
    EXPECT_TRUE(saved) << describe(saved.error());
    EXPECT_EQ(order.load(), 2);
  }
  stop = true;
  allocates.join();
  EXPECT_EQ(heap_[5], 77);
}

// What an arena has handed out by the time of the cut is in the image, whoever allocates meanwhile:
// a list whose nodes come faster than any unit is filled, followed from an image's own root.
TEST_P(Saves, AllocationsUntilTheCutAreInTheImage) {
  struct Node {
    Node* next;
    std::uint64_t number;
    std::array<std::uint64_t, 510> rest;
  };
  struct Head {
    std::atomic<Node*> first{nullptr};
  };
  constexpr std::uint64_t kNodes = 16'000;
  auto* const head = arena_->make<Head>();
  std::atomic<bool> stop{false};
  std::thread allocates([&] {
    for (std::uint64_t number = 1; !stop && number <= kNodes; ++number) {
      auto* const node = static_cast<Node*>(arena_->resource()->allocate(sizeof(Node)));
      node->number = number;
      node->next = head->first.load();
      head->first.store(node);
      if (number % 64 == 0) ::usleep(1000);
    }
  });
  const auto* const base = reinterpret_cast<const std::byte*>(arena_->range().base);
  for (int i = 0; i < 12; ++i) {
    const std::string path = folder_.file("list.ckpt");
    const auto saved = save(path);
    ASSERT_TRUE(saved) << describe(saved.error());
    const std::vector<std::byte> image = contents(path, "heap", std::size_t{128} << 20);
    const auto at = [&](const void* pointer) {
      return image.data() + (static_cast<const std::byte*>(pointer) - base);
    };
    const Node* node = nullptr;
    std::memcpy(&node, at(head), sizeof node);
    std::uint64_t number = 0;
    if (node != nullptr) std::memcpy(&number, at(&node->number), sizeof number);
    for (; node != nullptr; --number) {
      const auto offset = reinterpret_cast<const std::byte*>(node) - base;
      ASSERT_TRUE(offset > 0 && static_cast<std::size_t>(offset) + sizeof(Node) <= image.size())
          << "image " << i;
      std::uint64_t found = 0;
      std::memcpy(&found, at(&node->number), sizeof found);
      ASSERT_EQ(found, number) << "a node that is not in image " << i;
      std::memcpy(&node, at(&node->next), sizeof node);
    }
    ASSERT_EQ(number, 0U);
  }
  stop = true;
  allocates.join();
}

// Units that every increment finds written are left open, and told by their hashes; when they are
// not written any more nothing of them is saved, and then they are not looked at.
TEST_P(Saves, WhatIsAlwaysWrittenIsComparedAndCools) {
  if (!checkpointer_->tracks_writes()) GTEST_SKIP() << "this cut tracks nothing here";
  ASSERT_TRUE(save(folder_.file("0.ckpt")));
  const auto name = [&](int i) { return folder_.file(std::to_string(i) + ".ckpt"); };
  for (int i = 1; i <= 5; ++i) {
    for (std::size_t page = 0; page < 8; ++page) heap_[page * page_size()] ^= 0x55;
    const auto saved = save(name(i));
    ASSERT_TRUE(saved) << describe(saved.error());
    EXPECT_LE(saved->pages_written, 8U + 4U) << "increment " << i;
    EXPECT_EQ(saved_heap(name(i)), std::vector<unsigned char>(heap_, heap_ + kHeap));
  }
  for (int i = 6; i <= 9; ++i) {
    const auto saved = save(name(i));
    ASSERT_TRUE(saved) << describe(saved.error());
    EXPECT_LE(saved->pages_written, 4U) << "increment " << i;
    EXPECT_EQ(saved_heap(name(i)), std::vector<unsigned char>(heap_, heap_ + kHeap));
  }
  heap_[3 * page_size()] ^= 0x11;  // and again
  ASSERT_TRUE(save(name(10)));
  EXPECT_EQ(saved_heap(name(10)), std::vector<unsigned char>(heap_, heap_ + kHeap));
}

// A page that changes back is no change, though it was written to.
TEST_P(Saves, APageThatIsWhatItWasIsNotSavedAgain) {
  if (!checkpointer_->tracks_writes()) GTEST_SKIP() << "this cut tracks nothing here";
  ASSERT_TRUE(save(folder_.file("a.ckpt")));
  heap_[100 * page_size()] ^= 1;
  heap_[100 * page_size()] ^= 1;
  heap_[200 * page_size()] ^= 1;
  const auto next = save(folder_.file("b.ckpt"));
  ASSERT_TRUE(next) << describe(next.error());
  const bool by_hash = checkpointer_->serves_kernel_accesses();  // else by the kernel's marks
  EXPECT_LE(next->pages_written, (by_hash ? 1U : 2U) + 4U);
  EXPECT_EQ(saved_heap(folder_.file("b.ckpt")), std::vector<unsigned char>(heap_, heap_ + kHeap));
  // After a full image nothing of what was known before counts.
  SaveOptions all;
  all.full = true;
  ASSERT_TRUE(save(folder_.file("c.ckpt"), all));
  heap_[300 * page_size()] ^= 1;
  ASSERT_TRUE(save(folder_.file("d.ckpt")));
  EXPECT_EQ(saved_heap(folder_.file("d.ckpt")), std::vector<unsigned char>(heap_, heap_ + kHeap));
}

TEST_P(Saves, AddedRegionsAreOfTheSameInstant) {
  constexpr std::size_t kSize = std::size_t{2} << 20;
  auto* const mapped = static_cast<unsigned char*>(
      ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(mapped, MAP_FAILED);
  std::memset(mapped, 9, kSize);
  const PageRange range{reinterpret_cast<std::byte*>(mapped), pages_for(kSize)};
  ASSERT_TRUE(checkpointer_->add_region("extra", range));
  EXPECT_FALSE(checkpointer_->add_region("extra", range));
  for (int i = 0; i < 2; ++i) {
    mapped[i] = static_cast<unsigned char>(i + 1);
    const auto saved = save(folder_.file(std::to_string(i) + ".ckpt"));
    ASSERT_TRUE(saved) << describe(saved.error());
    const auto image = contents(folder_.file(std::to_string(i) + ".ckpt"), "extra", kSize);
    EXPECT_EQ(std::memcmp(image.data(), mapped, kSize), 0);
  }
  checkpointer_.reset();
  std::memset(mapped, 1, kSize);  // nothing of ours is left on it
  ::munmap(mapped, kSize);
}

// A child made in the middle of a save has all the memory, and can save it itself.
TEST_P(Saves, AForkInTheMiddleOfASave) {
  auto sink = std::make_unique<SlowSink>(file_sink(folder_.file("a.ckpt")).value());
  SlowSink& slow = *sink;
  auto saving = checkpointer_->checkpoint_async(std::move(sink));
  slow.wait_until_stopped();
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);
    for (std::size_t i = 0; i < kHeap; ++i)
      if (heap_[i] != pattern(i)) ::_exit(1);
    for (std::size_t i = 0; i < kHeap; i += page_size()) heap_[i] = 3;
    // It allocates, and makes checkpoints of its own.
    std::memset(arena_->resource()->allocate(100'000), 1, 100'000);
    auto own = file_sink(folder_.file("child.ckpt"));
    if (!own || !checkpointer_->checkpoint(**own)) ::_exit(2);
    ::_exit(heap_[0] == 3 ? 0 : 3);
  }
  slow.let_go();
  const auto saved = saving.get();
  EXPECT_TRUE(saved) << describe(saved.error());
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_TRUE(heap_is_whole());
  EXPECT_EQ(saved_heap(folder_.file("a.ckpt")), (std::vector<unsigned char>(heap_, heap_ + kHeap)));
}

TEST_P(Saves, ASeriesKeepsItsGenerations) {
  std::atomic<unsigned> done{0};
  std::atomic<unsigned> failures{0};
  PeriodicOptions series;
  series.directory = folder_.path();
  series.name = "state";
  series.every = std::chrono::milliseconds(20);
  series.keep = 2;
  series.full_every = 3;
  series.done = [&](const Result<Statistics>& saved) {
    if (!saved) failures.fetch_add(1);
    done.fetch_add(1);
  };
  ASSERT_TRUE(checkpointer_->start_periodic(series));
  while (done < 8) {
    heap_[0] = pattern(0);
    ::usleep(1000);
  }
  checkpointer_->stop_periodic();
  EXPECT_EQ(failures.load(), 0U);
  unsigned images = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    EXPECT_TRUE(verify(entry.path().string())) << entry.path();
    ++images;
  }
  EXPECT_GE(images, 2U);
  EXPECT_LE(images, 5U);
  series.directory = folder_.file("none");
  EXPECT_FALSE(checkpointer_->start_periodic(series));
}

INSTANTIATE_TEST_SUITE_P(Checkpoint, Saves, ::testing::ValuesIn(kWays), way_name);

TEST(Refusals, OfACutThatIsNotToBeHad) {
  CheckpointerOptions options;
  options.cut = Cut::protection_key;
  const auto made = Checkpointer::create(options);
  if (made) GTEST_SKIP() << "it is";
  EXPECT_EQ(made.error().number, ENOTSUP);
}

TEST(HugePages, AreSavedAndStay) {
  CheckpointerOptions options;
  options.huge_pages = true;
  auto made = Checkpointer::create(options);
  if (!made) GTEST_SKIP() << describe(made.error());
  EXPECT_EQ(made->cut(), Cut::write_protect);
  Arena& arena = *made->arena("heap", std::size_t{64} << 20).value();
  constexpr std::size_t kSize = std::size_t{32} << 20;
  auto* const heap = static_cast<unsigned char*>(arena.resource()->allocate(kSize, 4096));
  for (std::size_t i = 0; i < kSize; ++i) heap[i] = static_cast<unsigned char>(i * 13 + (i >> 12));
  const Folder folder;
  auto sink = file_sink(folder.file("a.ckpt")).value();
  ASSERT_TRUE(made->checkpoint(*sink));
  const auto offset =
      static_cast<std::size_t>(reinterpret_cast<std::byte*>(heap) - arena.range().base);
  const auto image = contents(folder.file("a.ckpt"), "heap", offset + kSize);
  EXPECT_EQ(std::memcmp(image.data() + offset, heap, kSize), 0);
}

}  // namespace
}  // namespace pagetrap::checkpoint
