// No memory in the middle of a commit: the transaction has not happened, and the store goes on.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <optional>

#include <pagetrap/store/store.hpp>

#include "store/support.hpp"

/// Of this thread, until one fails; negative: none does. failing_new.cpp.
extern thread_local int allocations_left;

namespace pagetrap::store {

namespace {

class Memory : public testing::TestWithParam<Detect> {};

TEST_P(Memory, ThatIsNotThereUndoesTheTransaction) {
  const Folder folder;
  const StoreOptions options = small_store(GetParam());
  const auto open = [&] { return Store::open(folder.file("a.store"), options); };
  auto opened = open();
  if (!opened && opened.error().number == ENOTSUP) GTEST_SKIP() << "not on this machine";
  ASSERT_TRUE(opened) << describe(opened.error());
  std::optional<Store> store(std::move(*opened));
  constexpr std::size_t kPages = 300;
  auto* const bytes = *store->root<std::array<unsigned char, kPages * 4096>>("bytes");
  unsigned refused = 0;
  unsigned char value = 1;
  for (int after = 0; after < 60; ++after, ++value) {
    // More pages than ever before, so that lists grow.
    const std::size_t pages = 1 + static_cast<std::size_t>(after) * 4;
    const unsigned char before = (*bytes)[0];
    const auto done = store->transaction([&] {
      for (std::size_t page = 0; page < pages; ++page) (*bytes)[page * 4096] = value;
      allocations_left = after % 6;
    });
    allocations_left = -1;
    if (!done) {
      ++refused;
      EXPECT_EQ(done.error().number, ENOMEM) << describe(done.error());
    }
    const auto again = store->transaction([&] { (*bytes)[1] = value; });
    // What could not be put back, for want of memory, leaves a store that says so.
    if (again) {
      EXPECT_EQ((*bytes)[0], done ? value : before) << "after " << after;
    } else {
      EXPECT_EQ(again.error().number, ENOMEM) << describe(again.error());
      store.reset();
      auto reopened = open();
      ASSERT_TRUE(reopened) << describe(reopened.error());
      store.emplace(std::move(*reopened));
      EXPECT_EQ((*bytes)[0], done ? value : before) << "reopened";
    }
  }
  EXPECT_GT(refused, 0U);
}

INSTANTIATE_TEST_SUITE_P(Detectors, Memory, testing::ValuesIn(kDetectors), detect_name);

}  // namespace
}  // namespace pagetrap::store
