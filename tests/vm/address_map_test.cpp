#include "vm/address_map.hpp"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>

namespace pagetrap {
namespace {

RegionState* fake(std::uintptr_t number) { return reinterpret_cast<RegionState*>(number * 64); }
std::byte* at(std::uint64_t page) { return reinterpret_cast<std::byte*>(page << page_shift()); }

// The oracle: first page -> {length, owner}.
using Oracle = std::map<std::uint64_t, std::pair<std::uint64_t, RegionState*>>;

RegionState* expected(const Oracle& oracle, std::uint64_t page) {
  auto after = oracle.upper_bound(page);
  if (after == oracle.begin()) return nullptr;
  --after;
  return page < after->first + after->second.first ? after->second.second : nullptr;
}

TEST(AddressMap, AgreesWithAnOrderedMap) {
  constexpr std::uint64_t kSeed = 20261122;
  std::mt19937_64 random(kSeed);
  const auto map = std::make_unique<AddressMap>();
  Oracle oracle;
  for (int step = 0; step < 4000; ++step) {
    // Lengths from a page to beyond 1 GiB, at places where the levels of the tree meet.
    const std::uint64_t length = std::uint64_t{1} << random() % 20;
    const std::uint64_t first = (random() % 4096 << random() % 24) + random() % 5;
    const PageRange range{at(first), Pages{length}};
    bool free = expected(oracle, first) == nullptr;
    const auto next = oracle.lower_bound(first);
    free = free && (next == oracle.end() || next->first >= first + length);
    EXPECT_EQ(map->any_in(range), !free) << "seed " << kSeed << " step " << step;
    if (free) {
      RegionState* const owner = fake(static_cast<std::uintptr_t>(step) + 1);
      ASSERT_TRUE(map->publish(range, owner));
      oracle[first] = {length, owner};
    } else if (!oracle.empty()) {
      auto victim = oracle.lower_bound(random() % (std::uint64_t{1} << 36));
      if (victim == oracle.end()) victim = oracle.begin();
      map->withdraw({at(victim->first), Pages{victim->second.first}});
      oracle.erase(victim);
    }
    for (const std::uint64_t page :
         {first - 1, first, first + length / 2, first + length - 1, first + length}) {
      EXPECT_EQ(map->find(at(page)), expected(oracle, page))
          << "seed " << kSeed << " step " << step << " page " << page;
    }
  }
}

TEST(AddressMap, RefusesWhatLiesBeyondItsAddresses) {
  const auto map = std::make_unique<AddressMap>();
  const std::uint64_t last = (std::uint64_t{1} << 36) - 1;
  EXPECT_TRUE(map->publish({at(last), Pages{1}}, fake(1)));
  EXPECT_FALSE(map->publish({at(last), Pages{2}}, fake(2)));
  EXPECT_EQ(map->find(at(last)), fake(1));
  EXPECT_EQ(map->find(reinterpret_cast<void*>(~std::uintptr_t{0})), nullptr);
}

}  // namespace
}  // namespace pagetrap
