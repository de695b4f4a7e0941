// Random transactions on typed containers, aborts, checkpoints and crashes among them, in a store
// that is at home in one session and elsewhere in the next, beside the same on the heap.
// PAGETRAP_STORE_STEPS sets how many.
#include <cstdlib>
#include <stdexcept>

#include "store/typed.hpp"

namespace pagetrap::store {
namespace {

using namespace typed;

class TypedModel : public ::testing::TestWithParam<Detect> {};

TEST_P(TypedModel, RandomTransactionsHereAndThere) {
  const char* const wanted = std::getenv("PAGETRAP_STORE_STEPS");
  const std::uint64_t steps = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 4000;
  Folder folder;
  const std::string path = folder.file("model.store");
  StoreOptions options = small_store(GetParam());
  options.durability = Durability::none;
  const std::uint64_t seed = 1991 + static_cast<std::uint64_t>(GetParam());
  campaign::Random random(seed);
  World model;
  std::uint64_t step = 0;
  std::uint64_t aborts = 0;
  std::uint64_t elsewhere = 0;
  std::optional<std::uint64_t> home;
  while (step < steps) {
    std::optional<Occupied> occupied;
    if (home && random() % 3 != 0) occupied.emplace(*home);
    OPEN_OR_SKIP(store, path, options);
    ASSERT_EQ(store.relocated(), occupied.has_value());
    if (!home) home = reinterpret_cast<std::uintptr_t>(store.range().base);
    elsewhere += store.relocated() ? 1 : 0;
    auto& there = *store.root<World>("all").value();
    ASSERT_TRUE(there == model) << "found again after step " << step;
    for (const std::uint64_t end = std::min(steps, step + random() % (steps / 10 + 1) + 1);
         step < end; ++step) {
      if (random() % 7 == 0) {
        EXPECT_THROW(static_cast<void>(store.transaction([&] {
                       for (std::uint64_t i = 0; i < 5; ++i) take_step(there, ~seed, step * 5 + i);
                       throw std::runtime_error("undone");
                     })),
                     std::runtime_error);
        ++aborts;
      }
      ASSERT_TRUE(store.transaction([&] { take_step(there, seed, step); }));
      take_step(model, seed, step);
      if (random() % 50 == 0) EXPECT_OK(store.checkpoint());
      const bool look = random() % 60 == 0;
      ASSERT_TRUE(!look || there == model) << "step " << step;
    }
    ASSERT_TRUE(there == model) << "step " << step;
    EXPECT_EQ(store.statistics().untyped_bytes, 0U);
    if (random() % 2 == 0) {
      EXPECT_OK(store.sync());
      StoreState::of(store).abandon_file();
    }
  }
  EXPECT_GT(aborts, 0U);
  EXPECT_GT(elsewhere, 0U);
}

INSTANTIATE_TEST_SUITE_P(Detectors, TypedModel, ::testing::ValuesIn(kDetectors), detect_name);

}  // namespace
}  // namespace pagetrap::store
