// The limit on mappings (vm.max_map_count, 65,530 by default) is no concern of a heap over
// userfaultfd, however scattered its pages are written.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <string>

#include <pagetrap/gc/gc.hpp>

#include "gc/supplies.hpp"

namespace pagetrap {
namespace {

struct Block : gc::object<Block> {
  gc::ref<Block> next;
  std::array<std::uint64_t, 252> words{};
  static constexpr auto members = gc::members(&Block::next);
};

std::size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) ++count;
  return count;
}

class Mappings : public testing::TestWithParam<gc::PageSupply> {};

// The half of them that is written is every second page.
TEST_P(Mappings, AreFewAtAnySize) {
  if (GetParam() == gc::PageSupply::mprotect)
    GTEST_SKIP() << "a mapping for each run of pages in one state: see docs/design/gc.md";
  constexpr std::size_t kBlocks = SANITIZED ? 16'384 : 131'072;
  gc::Options options;
  options.supply = GetParam();
  options.limit_bytes = 2_GiB;
  options.growth = 1e9;
  std::size_t most = 0;
  options.on_cycle_self = &most;
  options.on_cycle = [](void* self, const gc::Cycle&) {
    auto& count = *static_cast<std::size_t*>(self);
    count = std::max(count, mappings());
  };
  auto made = gc::Heap::create(options);
  if (!made && made.error().number == ENOTSUP) GTEST_SKIP() << describe(made.error());
  gc::Heap heap(std::move(made).value());
  gc::Mutator here(heap);
  const std::size_t before = mappings();
  gc::root<gc::array<gc::ref<Block>>> table(heap, heap.make_array<gc::ref<Block>>(kBlocks));
  for (std::size_t i = 0; i < kBlocks; ++i) (*table)[i] = heap.make<Block>();
  for (int round = 0; round < 4; ++round) {
    for (std::size_t i = static_cast<std::size_t>(round); i < kBlocks; i += 4) {
      (*table)[i]->words[0] = i;
      if (i % 64 == 0) (*table)[i]->next = heap.make<Block>();
      if (i % 4096 == 0) most = std::max(most, mappings());
    }
    heap.collect(round == 2);
  }
  EXPECT_GE(heap.statistics().used_bytes, kBlocks * sizeof(Block));
  EXPECT_LT(most, 200U) << before << " before there were objects";
}

INSTANTIATE_TEST_SUITE_P(, Mappings, testing::ValuesIn(tested_supplies()),
                         [](const auto& which) { return test_name(which.param); });

}  // namespace
}  // namespace pagetrap
