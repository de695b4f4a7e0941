// Stores whose addresses are in use: mapped elsewhere, changed there, and found at home again.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include <pagetrap/store/inspect.hpp>

#include "store/typed.hpp"

namespace pagetrap::store {
namespace {

using namespace typed;

class Relocated : public ::testing::TestWithParam<Detect> {
 protected:
  /// A typed world after some steps, closed.
  std::uint64_t make(std::uint64_t steps) {
    auto store = Store::open(path_, options_).value();
    auto& world = *store.root<World>("world").value();
    for (std::uint64_t i = 1; i <= steps; ++i)
      store.transaction([&] { take_step(world, 1, i); }).value();
    EXPECT_FALSE(store.relocated());
    EXPECT_EQ(store.statistics().untyped_bytes, 0U);
    return reinterpret_cast<std::uintptr_t>(store.range().base);
  }
  static World model(std::uint64_t steps) {
    World world;
    for (std::uint64_t i = 1; i <= steps; ++i) take_step(world, 1, i);
    return world;
  }
  void expect_intact() {
    auto file = StoreFile::open(path_);
    ASSERT_TRUE(file) << describe(file.error());
    EXPECT_OK(file->verify());
  }
  Folder folder_;
  std::string path_ = folder_.file("a.store");
  StoreOptions options_ = small_store(GetParam());
};

#define MAKE_OR_SKIP(steps)                                     \
  {                                                             \
    OPEN_OR_SKIP(probe, folder_.file("probe.store"), options_); \
    static_cast<void>(probe);                                   \
  }                                                             \
  [[maybe_unused]] const std::uint64_t home = make(steps)

TEST_P(Relocated, IsReadElsewhere) {
  MAKE_OR_SKIP(400);
  const Occupied occupied(home);
  OPEN_OR_SKIP(store, path_, options_);
  EXPECT_TRUE(store.relocated());
  EXPECT_TRUE(store.statistics().relocated);
  EXPECT_NE(reinterpret_cast<std::uintptr_t>(store.range().base), home);
  EXPECT_TRUE(*store.root<World>("world").value() == model(400));
}

// The canonical use: `cp a.store b.store`, and both opened in one program.
TEST_P(Relocated, ACopyBesideTheOriginal) {
  MAKE_OR_SKIP(300);
  const std::string copy = folder_.file("b.store");
  std::filesystem::copy_file(path_, copy);
  {
    OPEN_OR_SKIP(first, path_, options_);
    OPEN_OR_SKIP(second, copy, options_);
    EXPECT_FALSE(first.relocated());
    EXPECT_TRUE(second.relocated());
    auto& one = *first.root<World>("world").value();
    auto& two = *second.root<World>("world").value();
    EXPECT_TRUE(one == two);
    for (std::uint64_t i = 301; i <= 500; ++i)
      EXPECT_OK(second.transaction([&] { take_step(two, 1, i); }));
    EXPECT_TRUE(one == model(300));
    EXPECT_TRUE(two == model(500));
  }
  OPEN_OR_SKIP(again, copy, options_);
  EXPECT_FALSE(again.relocated());
  EXPECT_TRUE(*again.root<World>("world").value() == model(500));
}

TEST_P(Relocated, AHundredPlaces) {
  MAKE_OR_SKIP(200);
  const Occupied occupied(home);
  const World expected = model(200);
  std::set<std::byte*> places;
  for (int i = 0; i < 100; ++i) {
    OPEN_OR_SKIP(store, path_, options_);
    places.insert(store.range().base);
    ASSERT_TRUE(*store.root<World>("world").value() == expected) << store.range().base;
    // What is changed and changed back is logged all the same, and so goes through the file.
    for (const std::uint64_t add : {std::uint64_t{1}, ~std::uint64_t{0}})
      EXPECT_OK(store.transaction([&] { store.find<World>("world").value()->step += add; }));
  }
  EXPECT_GT(places.size(), 50U);
}

TEST_P(Relocated, WhatIsCommittedElsewhereIsFoundAtHome) {
  MAKE_OR_SKIP(100);
  for (const bool checkpoint : {false, true}) {
    const std::uint64_t done = checkpoint ? 500 : 100;
    {
      const Occupied occupied(home);
      OPEN_OR_SKIP(store, path_, options_);
      auto& world = *store.root<World>("world").value();
      for (std::uint64_t i = done + 1; i <= done + 400; ++i) {
        EXPECT_OK(store.transaction([&] { take_step(world, 1, i); }));
        if (checkpoint && i % 150 == 0) EXPECT_OK(store.checkpoint());
      }
      StoreState::of(store).abandon_file();
    }
    expect_intact();
    OPEN_OR_SKIP(store, path_, options_);
    EXPECT_FALSE(store.relocated());
    EXPECT_TRUE(*store.root<World>("world").value() == model(done + 400));
  }
}

TEST_P(Relocated, AbortsElsewhere) {
  MAKE_OR_SKIP(100);
  const Occupied occupied(home);
  OPEN_OR_SKIP(store, path_, options_);
  auto& world = *store.root<World>("world").value();
  for (std::uint64_t i = 0; i < 40; ++i) {
    const auto undone = store.transaction([&](Transaction& transaction) {
      for (std::uint64_t j = 0; j < 10; ++j) take_step(world, 77 + i, j);
      transaction.abort();
    });
    EXPECT_EQ(undone.error().number, ECANCELED);
    ASSERT_TRUE(world == model(100));
  }
}

// Killed in the middle of transactions and checkpoints, elsewhere; found at home, and elsewhere
// again, before and after the log was brought into the data.
TEST_P(Relocated, KilledElsewhere) {
  MAKE_OR_SKIP(50);
  struct Shared {
    std::atomic<std::uint64_t> acknowledged;
  };
  auto* const shared = static_cast<Shared*>(
      ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  shared->acknowledged = 50;
  for (int round = 0; round < 6; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      const Occupied occupied(home);
      auto store = Store::open(path_, options_);
      if (!store || !store->relocated()) ::_exit(1);
      auto& world = *store->root<World>("world").value();
      if (world.step < shared->acknowledged.load()) ::_exit(2);
      std::thread checkpoints([&] {
        for (;;) static_cast<void>(store->checkpoint());
      });
      for (std::uint64_t i = world.step + 1;; ++i) {
        if (!store->transaction([&] { take_step(world, 1, i); })) ::_exit(3);
        shared->acknowledged = i;
      }
    }
    const std::uint64_t before = shared->acknowledged.load();
    int status = 0;
    for (int i = 0; i < 3000 && shared->acknowledged.load() < before + 60; ++i) ::usleep(5000);
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    expect_intact();
    std::optional<Occupied> occupied;
    if (round % 2 == 1) occupied.emplace(home);
    OPEN_OR_SKIP(store, path_, options_);
    auto& world = *store.root<World>("world").value();
    EXPECT_GE(world.step, shared->acknowledged.load());
    ASSERT_TRUE(world == model(world.step)) << "round " << round << ", step " << world.step;
    if (round % 3 == 2) StoreState::of(store).abandon_file();
  }
  ::munmap(shared, kPageBytes);
}

// A word that is a pointer, then not, then again, and has the same value all the time: in the file
// it must not.
TEST_P(Relocated, AWordThatChangesItsMeaningOnly) {
  MAKE_OR_SKIP(10);
  {
    const Occupied occupied(home);
    OPEN_OR_SKIP(store, path_, options_);
    auto numbers = store.typed_allocator<std::uint64_t>();
    auto pointers = store.typed_allocator<Person*>();
    std::array<std::uint64_t*, 3> blocks{};
    EXPECT_OK(store.transaction([&] {
      for (auto*& block : blocks) block = numbers.allocate(100);
    }));
    const auto allocate_and_free = [&](auto allocator) {
      typename decltype(allocator)::value_type* block = nullptr;
      EXPECT_OK(store.transaction([&] { block = allocator.allocate(100); }));
      EXPECT_OK(store.checkpoint());
      EXPECT_OK(store.transaction([&] { allocator.deallocate(block, 100); }));
    };
    EXPECT_OK(store.transaction([&] {
      for (auto* block : blocks) numbers.deallocate(block, 100);
    }));
    EXPECT_OK(store.checkpoint());
    allocate_and_free(numbers);
    allocate_and_free(pointers);
    allocate_and_free(numbers);
    // A pointer to itself in a number's place, which then becomes one.
    EXPECT_OK(store.transaction([&] {
      std::uint64_t* const block = numbers.allocate(100);
      block[5] = reinterpret_cast<std::uintptr_t>(block);
      numbers.deallocate(block, 100);
    }));
    EXPECT_OK(store.checkpoint());
    EXPECT_OK(store.transaction([&] {
      Person** const block = pointers.allocate(100);
      block[5] = reinterpret_cast<Person*>(block);
      store.root<std::array<Person**, 1>>("block").value()->front() = block;
    }));
    StoreState::of(store).abandon_file();
  }
  expect_intact();
  OPEN_OR_SKIP(store, path_, options_);
  ASSERT_FALSE(store.relocated());
  Person** const block = store.root<std::array<Person**, 1>>("block").value()->front();
  EXPECT_EQ(static_cast<void*>(block[5]), block);
  EXPECT_OK(store.transaction([&] {
    auto allocator = store.typed_allocator<std::uint64_t>();
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(store.contains(allocator.allocate(100)));
  }));
}

TEST_P(Relocated, UntypedBlocksAreRefusedWithTheirNumber) {
  MAKE_OR_SKIP(10);
  {
    OPEN_OR_SKIP(store, path_, options_);
    auto& plain = *store.root<std::pmr::vector<std::pmr::string>>("plain").value();
    EXPECT_OK(store.transaction([&] { plain.resize(100); }));
  }
  const std::uint64_t untyped = StoreFile::open(path_).value().info().untyped_bytes;
  EXPECT_GT(untyped, 100 * sizeof(std::pmr::string));
  const Occupied occupied(home);
  const auto refused = Store::open(path_, options_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().number, EEXIST);
  const std::string words = describe(refused.error());
  EXPECT_NE(words.find(std::to_string(untyped)), std::string::npos) << words;
  options_.relocation = RelocationMode::refuse;
  const auto as_before = Store::open(path_, options_);
  ASSERT_FALSE(as_before);
  EXPECT_EQ(as_before.error().number, EEXIST);
}

TEST_P(Relocated, ByValueTakesStdPmr) {
  using Plain = std::pmr::map<int, std::pmr::vector<std::pmr::string>>;
  std::uint64_t home = 0;
  {
    OPEN_OR_SKIP(store, path_, options_);
    home = reinterpret_cast<std::uintptr_t>(store.range().base);
    auto& plain = *store.root<Plain>("plain").value();
    EXPECT_OK(store.transaction([&] {
      for (int i = 0; i < 300; ++i) plain[i].assign(5, std::pmr::string(std::size_t(i) % 50, 'p'));
    }));
    // Free runs of pages, whose heads are two page numbers.
    auto& big = *store.root<std::pmr::vector<std::uint64_t>>("big").value();
    EXPECT_OK(store.transaction([&] { big.resize(30'000, 1); }));
    EXPECT_OK(store.transaction([&] { big.resize(0), big.shrink_to_fit(); }));
  }
  options_.relocation = RelocationMode::by_value;
  {
    const Occupied occupied(home);
    OPEN_OR_SKIP(store, path_, options_);
    EXPECT_TRUE(store.relocated());
    auto& plain = *store.root<Plain>("plain").value();
    ASSERT_EQ(plain.size(), 300U);
    EXPECT_OK(store.transaction([&] {
      for (int i = 0; i < 300; ++i) plain[i].resize(3);
      for (int i = 300; i < 400; ++i)
        plain[i].assign(3, std::pmr::string(std::size_t(i) % 50, 'p'));
      store.root<World>("world").value();  // and a map, whose pages are numbers and bits
    }));
    EXPECT_OK(store.checkpoint());
    auto& world = *store.root<World>("world").value();
    for (std::uint64_t i = 1; i <= 200; ++i)
      EXPECT_OK(store.transaction([&] { take_step(world, 1, i); }));
    EXPECT_TRUE(world == model(200));
    StoreState::of(store).abandon_file();
  }
  expect_intact();
  OPEN_OR_SKIP(store, path_, options_);
  EXPECT_FALSE(store.relocated());
  auto& plain = *store.root<Plain>("plain").value();
  ASSERT_EQ(plain.size(), 400U);
  for (const auto& [key, texts] : plain) {
    ASSERT_EQ(texts.size(), 3U);
    for (const auto& text : texts) EXPECT_EQ(text, std::pmr::string(std::size_t(key) % 50, 'p'));
  }
  EXPECT_TRUE(*store.root<World>("world").value() == model(200));
}

TEST_P(Relocated, AStoreCanBeMadeAndMigratedElsewhere) {
  MAKE_OR_SKIP(10);
  {
    const Occupied occupied(home);
    OPEN_OR_SKIP(store, path_, options_);
    auto* const list = store.root<List<int>>("list").value();
    EXPECT_OK(store.transaction([&] { list->assign({1, 2, 3}); }));
    const auto wide = store.migrate<List<int>, List<long>>("list", [&](const List<int>& old) {
      return store.make<List<long>>(old.begin(), old.end());
    });
    ASSERT_TRUE(wide) << describe(wide.error());
    // Made without its type, though it has one: counted as that.
    EXPECT_OK(store.transaction([&] { store.root<int>("number").value(); }));
    EXPECT_TRUE((store.migrate<int, long>(
        "number", [&](int old) { return store.allocator().new_object<long>(old); })));
    EXPECT_EQ(store.statistics().untyped_bytes, 16U);
    EXPECT_OK(store.erase<long>("number"));
    EXPECT_EQ(store.statistics().untyped_bytes, 0U);
  }
  OPEN_OR_SKIP(store, path_, options_);
  EXPECT_EQ(*store.root<List<long>>("list").value(), (List<long>{1, 2, 3}));
}

// Nobody looks for what is written: the heap announces what it does to its map.
TEST(RelocatedBarrier, TheMapIsAnnounced) {
  Folder folder;
  const std::string path = folder.file("a.store");
  StoreOptions options = small_store(Detect::barrier);
  std::uint64_t home = 0;
  using Block = std::array<Person*, 60>;
  for (const int where : {0, 1, 2, 1}) {
    std::optional<Occupied> occupied;
    if (where == 1) occupied.emplace(home);
    OPEN_OR_SKIP(store, path, options);
    EXPECT_EQ(store.relocated(), where == 1);
    if (where == 0) home = reinterpret_cast<std::uintptr_t>(store.range().base);
    auto& slots = *store.root<Block>("slots").value();
    for (Person* const person : slots) {
      const bool good = person == nullptr ||
                        (store.contains(person) && person->age == 7 && person->next == person);
      EXPECT_TRUE(good) << person;
    }
    EXPECT_OK(store.transaction([&](Transaction& transaction) {
      auto people = store.typed_allocator<Person>();
      transaction.write(&slots, sizeof slots);
      for (Person*& person : slots) {
        if (person != nullptr) people.deallocate(person, 1);
        person = store.make<Person>();
        person->next = person;
        person->age = 7;
      }
      // Large enough for pages of its own, and tables that were a program's before.
      auto numbers = store.typed_allocator<std::uint64_t>();
      numbers.deallocate(numbers.allocate(200'000), 200'000);
    }));
    if (where == 1) EXPECT_OK(store.checkpoint());
    EXPECT_EQ(store.statistics().untyped_bytes, 0U);
    StoreState::of(store).abandon_file();
  }
  auto file = StoreFile::open(path);
  ASSERT_TRUE(file) << describe(file.error());
  EXPECT_OK(file->verify());
}

INSTANTIATE_TEST_SUITE_P(Detectors, Relocated,
                         ::testing::Values(Detect::traps, Detect::ring, Detect::scan), detect_name);

}  // namespace
}  // namespace pagetrap::store
