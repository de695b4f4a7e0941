// Writes that do not come from a transaction's own instructions: strays, system calls.
#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "store/store_state.hpp"
#include "store/support.hpp"

namespace pagetrap::store {
namespace {

using Block = std::array<unsigned char, 64 * 1024>;

// Traps: the write never happens, and its thread is told.
TEST(Strays, AWriteOutsideATransactionIsASignal) {
  Folder folder;
  // In the child, which would not have its parent's store.
  const auto stray = [&] {
    Store store = Store::open(folder.file("a.store"), small_store(Detect::traps)).value();
    auto* const block = store.root<Block>("block").value();
    (*block)[5] = 1;
  };
  EXPECT_DEATH(stray(), "a write to 0x[0-9a-f]+ outside a transaction is refused");
  OPEN_OR_SKIP(store, folder.file("a.store"), small_store(Detect::traps));
  EXPECT_EQ((*store.root<Block>("block").value())[5], 0);
}

// The others find it before the next transaction, and take it back.
TEST(Strays, AWriteOutsideATransactionIsTakenBack) {
  for (const Detect detect : {Detect::ring, Detect::scan}) {
    Folder folder;
    OPEN_OR_SKIP(store, folder.file("a.store"), small_store(detect));
    auto* const block = store.root<Block>("block").value();
    (*block)[5] = 1;
    (*block)[60'000] = 1;
    EXPECT_OK(store.transaction([&] { (*block)[70] = 7; }));
    EXPECT_EQ((*block)[5], 0);
    EXPECT_EQ((*block)[60'000], 0);
    EXPECT_EQ((*block)[70], 7);
    EXPECT_EQ(store.statistics().strays, 2U);
  }
}

// One that changes nothing is none; but the page's next write must be found as any other.
TEST(Strays, AWriteOfWhatIsThereHidesNoLaterOne) {
  for (const Detect detect : {Detect::ring, Detect::scan}) {
    Folder folder;
    const std::string path = folder.file("a.store");
    {
      OPEN_OR_SKIP(store, path, small_store(detect));
      auto* const block = store.root<Block>("block").value();
      for (unsigned char i = 1; i < 10; ++i) {
        *static_cast<volatile unsigned char*>(&(*block)[9000 + i]) = 0;
        EXPECT_OK(store.transaction([&] { (*block)[i] = 1; }));
        EXPECT_OK(store.transaction([&] { (*block)[9000] = i; }));
      }
      EXPECT_EQ(store.statistics().strays, 0U);
    }
    OPEN_OR_SKIP(store, path, small_store(detect));
    EXPECT_EQ((*store.root<Block>("block").value())[9000], 9);
  }
}

class OpenPages : public ::testing::TestWithParam<Detect> {};

// Pages that stay open, since every transaction writes them, are compared before each.
TEST_P(OpenPages, AWriteToOneIsTakenBack) {
  Folder folder;
  OPEN_OR_SKIP(store, folder.file("a.store"), small_store(GetParam()));
  auto* const block = store.root<Block>("block").value();
  for (unsigned char i = 1; i < 10; ++i) EXPECT_OK(store.transaction([&] { (*block)[70] = i; }));
  (*block)[71] = 1;
  EXPECT_OK(store.transaction([&] { (*block)[72] = 1; }));
  EXPECT_EQ((*block)[71], 0);
  EXPECT_EQ(store.statistics().strays, 1U);
}

// Hot pages beside others, of which some become hot and some cease to be: nothing is missing.
TEST_P(OpenPages, NoChangeIsMissed) {
  Folder folder;
  const std::string path = folder.file("a.store");
  std::array<unsigned, 64> expected{};
  using Words = std::array<std::array<unsigned, 1024>, 64>;  // a page each
  {
    OPEN_OR_SKIP(store, path, small_store(GetParam()));
    auto& words = *store.root<Words>("words").value();
    for (unsigned i = 1; i < 500; ++i) {
      const unsigned hot = i / 40 % 24;
      const auto change = [&](auto&& set) {
        set(hot, i);
        if (i % 3 == 0) set(hot + 1, i);
        if (i % 20 == 0) set(i / 20 % 64, i);
      };
      if (i % 7 == 0) {
        EXPECT_EQ(store
                      .transaction([&](Transaction& transaction) {
                        change([&](unsigned page, unsigned value) { words[page][5] = value; });
                        transaction.abort();
                      })
                      .error()
                      .number,
                  ECANCELED);
      } else {
        EXPECT_OK(store.transaction(
            [&] { change([&](unsigned page, unsigned value) { words[page][5] = value; }); }));
        change([&](unsigned page, unsigned value) { expected[page] = value; });
      }
      for (unsigned page = 0; page < 64; ++page) ASSERT_EQ(words[page][5], expected[page]) << i;
    }
    EXPECT_EQ(store.statistics().strays, 0U);
    StoreState::of(store).abandon_file();
  }
  OPEN_OR_SKIP(store, path, small_store(GetParam()));
  const auto& words = *store.root<Words>("words").value();
  for (unsigned page = 0; page < 64; ++page) EXPECT_EQ(words[page][5], expected[page]) << page;
}

INSTANTIATE_TEST_SUITE_P(Detectors, OpenPages, ::testing::ValuesIn(kDetectors), detect_name);

class SystemCalls : public ::testing::TestWithParam<Detect> {
 protected:
  void SetUp() override {
    ASSERT_EQ(::pipe(pipe_), 0);
    ASSERT_EQ(::write(pipe_[1], "what was read", 13), 13);
  }
  void TearDown() override {
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }
  int pipe_[2]{};
};

TEST_P(SystemCalls, WhatTheyWriteIsCommitted) {
  Folder folder;
  const std::string path = folder.file("a.store");
  {
    OPEN_OR_SKIP(store, path, small_store(GetParam()));
    auto* const block = store.root<Block>("block").value();
    EXPECT_OK(store.transaction([&] {
      EXPECT_TRUE(store.prepare(block->data() + 9000, 13));
      EXPECT_EQ(::read(pipe_[0], block->data() + 9000, 13), 13);
    }));
  }
  OPEN_OR_SKIP(store, path, small_store(GetParam()));
  auto* const block = store.root<Block>("block").value();
  EXPECT_EQ(std::memcmp(block->data() + 9000, "what was read", 13), 0);
}

INSTANTIATE_TEST_SUITE_P(Detectors, SystemCalls, ::testing::ValuesIn(kDetectors), detect_name);

// The rule for those who forget prepare(): an error of the call, and nothing is changed.
TEST(Unprepared, TrapsRefuseASystemCall) {
  Folder folder;
  OPEN_OR_SKIP(store, folder.file("a.store"), small_store(Detect::traps));
  auto* const block = store.root<Block>("block").value();
  const int zero = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
  EXPECT_OK(store.transaction([&] {
    EXPECT_EQ(::read(zero, block->data() + 9000, 13), -1);
    EXPECT_EQ(errno, EFAULT);
  }));
  ::close(zero);
}

// Without it, where the kernel resolves the faults, once the page is there.
TEST(Unprepared, RingAndScanSeeSystemCalls) {
  for (const Detect detect : {Detect::ring, Detect::scan}) {
    Folder folder;
    OPEN_OR_SKIP(store, folder.file("a.store"), small_store(detect));
    auto* const block = store.root<Block>("block").value();
    const int random = ::open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    const auto before = store.statistics().payload_bytes;
    EXPECT_OK(
        store.transaction([&] { EXPECT_EQ(::read(random, block->data() + 9000, 4000), 4000); }));
    ::close(random);
    EXPECT_GT(store.statistics().payload_bytes, before + 3900);
  }
}

// The twin: what is announced is kept, and aborts know it.
TEST(Barrier, WhatIsAnnouncedIsCommitted) {
  Folder folder;
  const std::string path = folder.file("a.store");
  {
    OPEN_OR_SKIP(store, path, small_store(Detect::barrier));
    auto* const block = store.root<Block>("block").value();
    EXPECT_OK(store.transaction([&](Transaction& transaction) {
      transaction.write(block->data() + 9000, 100);
      std::memset(block->data() + 9000, 7, 100);
    }));
    const auto done = store.transaction([&](Transaction& transaction) {
      transaction.write(block->data() + 9000, 100);
      std::memset(block->data() + 9000, 8, 100);
      transaction.abort();
    });
    EXPECT_EQ(done.error().number, ECANCELED);
    EXPECT_EQ((*block)[9000], 7);
    EXPECT_THROW(static_cast<void>(store.transaction(
                     [&](Transaction& transaction) { transaction.write(this, 1); })),
                 SystemError);
  }
  OPEN_OR_SKIP(store, path, small_store(Detect::barrier));
  auto* const block = store.root<Block>("block").value();
  for (std::size_t i = 9000; i < 9100; ++i) ASSERT_EQ((*block)[i], 7) << i;
}

}  // namespace
}  // namespace pagetrap::store
