#include "vm/address_map.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace pagetrap {
namespace {

struct Random {
  std::uint64_t state;
  explicit Random(std::uint64_t seed) : state(seed) {
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  }
  std::uint64_t next() {
    std::uint64_t z = (state += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t limit) { return next() % limit; }
};

// Never dereferenced; aligned as a RegionState is.
RegionState* fake(std::uint64_t number) {
  return reinterpret_cast<RegionState*>((number + 1) << 8);
}
std::byte* at_page(std::uint64_t page) {
  return reinterpret_cast<std::byte*>(page << page_shift());
}

// The nodes of a map are never freed, so the maps of these tests stay too, where a leak detector
// finds them.
AddressMap& make_map() {
  static auto& maps = *new std::vector<std::unique_ptr<AddressMap>>;
  maps.push_back(std::make_unique<AddressMap>());
  return *maps.back();
}

constexpr std::uint64_t kSpacePages = std::uint64_t{1} << 36;

// What the map should say: an ordered map.
class Oracle {
 public:
  // First page -> (pages, who).
  std::map<std::uint64_t, std::pair<std::uint64_t, RegionState*>> ranges;

  [[nodiscard]] RegionState* find(std::uint64_t page) const {
    auto after = ranges.upper_bound(page);
    if (after == ranges.begin()) return nullptr;
    --after;
    return page - after->first < after->second.first ? after->second.second : nullptr;
  }
  [[nodiscard]] bool any(std::uint64_t first, std::uint64_t count) const {
    const auto after = ranges.lower_bound(first);
    if (after != ranges.end() && after->first < first + count) return true;
    return find(first) != nullptr;
  }
};

struct Extent {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};

// One of a few places, so that ranges meet at every level of the tree.
Extent in_a_cluster(Random& random) {
  const std::uint64_t center = random.below(6) * ((std::uint64_t{1} << 33) - 77);
  const std::uint64_t reach = std::uint64_t{1} << (3 + random.below(20));
  const std::uint64_t scale = random.below(20);
  Extent extent;
  extent.first = (center + random.below(reach)) % (kSpacePages - 1);
  extent.count = 1 + random.below(std::uint64_t{1} << scale);
  if (random.below(3) == 0) extent.count = std::uint64_t{1} << random.below(20);
  return extent;
}

// From a page to beyond 1 GiB, just after places where the levels of the tree meet.
Extent at_a_boundary(Random& random) {
  Extent extent;
  extent.first = random.below(4096);
  extent.first <<= random.below(24);
  extent.first += random.below(5);
  extent.count = std::uint64_t{1} << random.below(20);
  return extent;
}

TEST(AddressMap, AgreesWithAnOracle) {
  Random random(48);
  AddressMap& map = make_map();
  Oracle oracle;
  for (unsigned step = 0; step < 10'000; ++step) {
    const Extent extent = random.below(2) == 0 ? in_a_cluster(random) : at_a_boundary(random);
    const std::uint64_t first = extent.first;
    const std::uint64_t count = std::min(extent.count, kSpacePages - first);
    const PageRange range{at_page(first), Pages{count}};
    ASSERT_EQ(map.any_in(range), oracle.any(first, count)) << step;
    if (!oracle.any(first, count)) {
      RegionState* const who = fake(step);
      ASSERT_TRUE(map.publish(range, who));
      oracle.ranges[first] = {count, who};
    } else if (!oracle.ranges.empty() && random.below(2) == 0) {
      auto victim = oracle.ranges.lower_bound(random.below(kSpacePages));
      if (victim == oracle.ranges.end()) victim = oracle.ranges.begin();
      map.withdraw({at_page(victim->first), Pages{victim->second.first}});
      oracle.ranges.erase(victim);
    }
    for (const std::uint64_t page : {first, first + count - 1, first + count, first - 1,
                                     first + count / 2, random.below(kSpacePages)}) {
      if (page >= kSpacePages) continue;
      ASSERT_EQ(map.find(at_page(page) + random.below(page_size())), oracle.find(page))
          << "page " << page << " step " << step;
    }
  }
  EXPECT_GT(oracle.ranges.size(), 20U);
  for (const auto& [first, value] : oracle.ranges)
    map.withdraw({at_page(first), Pages{value.first}});
  EXPECT_FALSE(map.any_in({at_page(0), Pages{kSpacePages}}));
}

TEST(AddressMap, HoldsRangesThatEndAtNodes) {
  AddressMap& map = make_map();
  for (const std::uint64_t size : {std::uint64_t{1}, std::uint64_t{512}, std::uint64_t{512} * 512,
                                   std::uint64_t{512} * 512 * 512}) {
    for (const std::int64_t head : {-1, 0, 1}) {
      for (const std::int64_t tail : {-1, 0, 1}) {
        const std::uint64_t first = 4 * size + static_cast<std::uint64_t>(head);
        const std::uint64_t end = 6 * size + static_cast<std::uint64_t>(tail);
        if (first >= end) continue;
        const PageRange range{at_page(first), Pages{end - first}};
        ASSERT_TRUE(map.publish(range, fake(7)));
        EXPECT_EQ(map.find(at_page(first)), fake(7));
        EXPECT_EQ(map.find(at_page(end) - 1), fake(7));
        EXPECT_EQ(map.find(at_page(end)), nullptr);
        EXPECT_EQ(map.find(at_page(first) - 1), nullptr);
        map.withdraw(range);
        EXPECT_EQ(map.find(at_page(first)), nullptr);
        EXPECT_EQ(map.find(at_page(end) - 1), nullptr);
      }
    }
  }
}

TEST(AddressMap, RefusesWhatIsBeyondItsReach) {
  AddressMap& map = make_map();
  EXPECT_FALSE(map.publish({at_page(kSpacePages), Pages{1}}, fake(1)));
  EXPECT_FALSE(map.publish({at_page(kSpacePages - 1), Pages{2}}, fake(1)));
  EXPECT_EQ(map.find(at_page(kSpacePages - 1)), nullptr);
  EXPECT_TRUE(map.publish({at_page(kSpacePages - 1), Pages{1}}, fake(1)));
  EXPECT_FALSE(map.publish({at_page(kSpacePages - 1), Pages{2}}, fake(2)));
  EXPECT_EQ(map.find(at_page(kSpacePages - 1)), fake(1));
  EXPECT_EQ(map.find(reinterpret_cast<void*>(~std::uintptr_t{0})), nullptr);
  EXPECT_EQ(map.find(nullptr), nullptr);
  map.withdraw({at_page(kSpacePages - 1), Pages{1}});
  EXPECT_FALSE(map.any_in({at_page(kSpacePages), Pages{5}}));
}

// Readers never find anything but what is, or was, published there.
TEST(AddressMap, IsReadWhileItChanges) {
  AddressMap& map = make_map();
  ASSERT_TRUE(map.publish({at_page(1000), Pages{24}}, fake(1)));
  std::atomic<bool> stop{false};
  std::atomic<unsigned> wrong{0};
  std::thread reader([&] {
    for (std::uint64_t i = 0; !stop.load(); ++i) {
      if (map.find(at_page(1000 + i % 24)) != fake(1)) wrong.fetch_add(1);
      RegionState* const other = map.find(at_page(1024 + i % 4096));
      if (other != nullptr && other != fake(2)) wrong.fetch_add(1);
    }
  });
  for (unsigned round = 0; round < 3000; ++round) {
    const PageRange range{at_page(1024 + round % 700), Pages{1 + round % 2000}};
    if (!map.publish(range, fake(2))) wrong.fetch_add(1);
    map.withdraw(range);
  }
  stop.store(true);
  reader.join();
  EXPECT_EQ(wrong.load(), 0U);
}

}  // namespace
}  // namespace pagetrap
