// Writes that do not come from a transaction's own instructions: strays, system calls.
#include <fcntl.h>
#include <unistd.h>

#include <cstring>

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

// Pages that stay open, since every transaction writes them, are compared before each.
TEST(Strays, AWriteToAPageThatStaysOpenIsTakenBack) {
  Folder folder;
  OPEN_OR_SKIP(store, folder.file("a.store"), small_store(Detect::traps));
  auto* const block = store.root<Block>("block").value();
  for (unsigned char i = 1; i < 10; ++i) EXPECT_OK(store.transaction([&] { (*block)[70] = i; }));
  (*block)[71] = 1;
  EXPECT_OK(store.transaction([&] { (*block)[72] = 1; }));
  EXPECT_EQ((*block)[71], 0);
  EXPECT_EQ(store.statistics().strays, 1U);
}

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
