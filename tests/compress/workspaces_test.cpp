#include "compress/workspaces.hpp"

#include <atomic>
#include <thread>

#include "compress/support.hpp"

namespace pagetrap::compress {
namespace {

TEST(WorkspacesOfAStore, AreOnesAtATime) {
  Workspaces workspaces;
  ASSERT_TRUE(workspaces.open(2, 1000));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 6; ++t) {
    threads.emplace_back([&] {
      for (unsigned i = 0; i < 20'000; ++i) {
        const Workspaces::Lease space(workspaces);
        // Told apart by a word in their memory, which is zero at first.
        std::uint64_t users = 0;
        std::memcpy(&users, space->scratch.data(), sizeof users);
        if (users != 0) wrong.fetch_add(1);
        users = 1;
        std::memcpy(space->scratch.data(), &users, sizeof users);
        if (i % 64 == 0) std::this_thread::yield();
        users = 0;
        std::memcpy(space->scratch.data(), &users, sizeof users);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_EQ(workspaces.ever_used(), 2U);
}

TEST(WorkspacesOfAStore, AreOneToSixtyFour) {
  EXPECT_EQ(Workspaces().open(0, 1).error().number, EINVAL);
  EXPECT_EQ(Workspaces().open(65, 1).error().number, EINVAL);
  Workspaces most;
  ASSERT_TRUE(most.open(64, 1));
  most.take_all();
  most.give_back_all();
  const Workspaces::Lease one(most);
  EXPECT_EQ(one->page.size(), page_size());
  EXPECT_EQ(one->scratch.size(), page_size());
}

}  // namespace
}  // namespace pagetrap::compress
