// StoreOptions::check_pointers: what leads out of the store is found, and what does not is not.
#include <cstdlib>
#include <cstring>
#include <memory>

#include "store/typed.hpp"

namespace pagetrap::store {
namespace {

using namespace typed;

struct Shape {
  virtual ~Shape() = default;
  virtual int corners() const { return 3; }
  int colour = 0;
};
int a_function() { return 1; }

class StrayPointersOf : public ::testing::TestWithParam<Detect> {
 protected:
  void SetUp() override {
    options_.check_pointers = true;
    auto opened = Store::open(folder_.file("a.store"), options_);
    if (!opened && opened.error().number == ENOTSUP) GTEST_SKIP() << describe(opened.error());
    store_ = std::move(opened).value();
  }
  /// `value` in a slot of the store is refused, and `what` is said of it.
  template <class T>
  void expect_refused(T value, const char* what) {
    using Slots = std::array<T, 100>;
    auto& slots = *store_->root<Slots>("slots").value();
    const T before = slots[17];
    const auto done = store_->transaction([&] { slots[17] = value; });
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().number, EFAULT);
    const std::string words = describe(done.error());
    EXPECT_NE(words.find(what), std::string::npos) << words;
    char place[24];
    std::snprintf(place, sizeof place, "%p", static_cast<void*>(&slots[17]));
    EXPECT_NE(words.find(place), std::string::npos) << words;
    EXPECT_EQ(slots[17], before);
    EXPECT_OK(store_->transaction([&] { slots[18] = {}; }));
    EXPECT_OK(store_->erase<Slots>("slots"));
  }
  Folder folder_;
  StoreOptions options_ = small_store(GetParam());
  std::optional<Store> store_;
};

TEST_P(StrayPointersOf, Literal) { expect_refused<const char*>("a literal", "constants"); }
TEST_P(StrayPointersOf, Variable) {
  static int variable = 1;
  expect_refused<int*>(&variable, "store_relocation_test, variables");
}
TEST_P(StrayPointersOf, Function) { expect_refused<int (*)()>(a_function, "code"); }
TEST_P(StrayPointersOf, Stack) {
  int local = 0;
  expect_refused<int*>(&local, "[stack]");
}
TEST_P(StrayPointersOf, Heap) {
  const std::string text(100, 'x');
  expect_refused<const char*>(text.data(), "[heap]");
}
// Mapped after the mappings were read.
TEST_P(StrayPointersOf, WhatIsMappedLater) {
  expect_refused<const char*>("a literal", "constants");
  void* const later = ::mmap(nullptr, 1_MiB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  expect_refused<void*>(later, "anonymous");
  ::munmap(later, 1_MiB);
}
TEST_P(StrayPointersOf, AnotherStore) {
  auto other = Store::open(folder_.file("b.store"), small_store()).value();
  auto* const there = other.root<std::uint64_t>("number").value();
  char address[24];
  std::snprintf(address, sizeof address, "is %p: ", static_cast<void*>(there));
  expect_refused<std::uint64_t*>(there, address);
}

// A class with virtual functions cannot be typed; in a std::pmr container the mode finds it.
TEST_P(StrayPointersOf, TableOfVirtualFunctions) {
  auto& shapes = *store_->root<std::pmr::vector<Shape>>("shapes").value();
  const auto done = store_->transaction([&] { shapes.emplace_back(); });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().number, EFAULT);
  EXPECT_TRUE(shapes.empty());
}

// All of a typed world is in the store, and numbers that look like addresses are no pointers.
TEST_P(StrayPointersOf, NothingIsFoundInATypedStore) {
  auto& world = *store_->root<World>("world").value();
  for (std::uint64_t i = 1; i <= 300; ++i)
    EXPECT_OK(store_->transaction([&] { take_step(world, 3, i); }));
  EXPECT_OK(store_->transaction([&] {
    world.deque.push_back(reinterpret_cast<std::uintptr_t>("no pointer"));
    world.table[reinterpret_cast<std::uintptr_t>(&world)] = "key";
  }));
  EXPECT_EQ(store_->statistics().untyped_bytes, 0U);
}

TEST_P(StrayPointersOf, OrdinaryPmrContainersAreFine) {
  using Plain = std::pmr::unordered_map<std::pmr::string, std::pmr::vector<int>>;
  auto& plain = *store_->root<Plain>("plain").value();
  for (int i = 0; i < 200; ++i)
    EXPECT_OK(
        store_->transaction([&] { plain[std::pmr::string(std::to_string(i))].push_back(i); }));
}

INSTANTIATE_TEST_SUITE_P(Detectors, StrayPointersOf, ::testing::ValuesIn(kDetectors), detect_name);

}  // namespace
}  // namespace pagetrap::store
