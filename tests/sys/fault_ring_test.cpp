#include "sys/fault_ring.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "support.hpp"

namespace pagetrap::sys {
namespace {

TEST(FaultRing, SeesTheFaultsOfAllThreads) {
  auto ring = FaultRing::open();
  if (!ring) GTEST_SKIP() << describe(ring.error());
  std::vector<std::byte*> before;
  ring->drain(before);
  const Mapping mine = Mapping::create(anonymous_pages(1, PROT_READ | PROT_WRITE)).value();
  const Mapping theirs = Mapping::create(anonymous_pages(1, PROT_READ | PROT_WRITE)).value();
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
