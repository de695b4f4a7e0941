// Objects with a create and a destroy of their own: what a stale pointer finds.
#include <pagetrap/guard/arena.hpp>

#include <gtest/gtest.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace pagetrap::guard {
namespace {

struct Node {
  Node* next = nullptr;
  std::uint64_t value = 0;
  std::uint64_t more = 0;
};
struct Small {
  std::uint32_t value = 0;
};
struct Page {
  std::array<std::byte, 4096> bytes{};
};
struct Large {
  std::array<std::uint64_t, 100'000> words{};
};
struct alignas(256) Aligned {
  std::uint64_t value = 0;
};

/// Writes down what is reported, and leaves the fault handler.
struct Catcher {
  MisuseReport last;
  int count = 0;
  sigjmp_buf out;
  bool leaves = true;
  static void on_misuse(void* self, const MisuseReport& report) noexcept {
    auto& me = *static_cast<Catcher*>(self);
    me.last = report;
    ++me.count;
    const bool access = report.what == Misuse::stale_read || report.what == Misuse::stale_write;
    if (access && me.leaves) siglongjmp(me.out, 1);
  }
  ArenaOptions options() {
    ArenaOptions options;
    options.on_misuse = on_misuse;
    options.self = this;
    return options;
  }
};

enum class Seen { value, fault };

template <class T>
Seen read_stale(Catcher& catcher, const T* address, T& value) {
  if (sigsetjmp(catcher.out, 1) != 0) return Seen::fault;
  value = *const_cast<const volatile T*>(address);
  return Seen::value;
}

TEST(ArenaTest, ObjectsAreWhatTheyWereMadeOf) {
  Arena arena = Arena::reserve().value();
  std::vector<Node*> nodes;
  for (std::uint64_t i = 0; i < 100'000; ++i) {
    nodes.push_back(arena.create<Node>(Node{nullptr, i, ~i}));
    EXPECT_TRUE(arena.alive(nodes.back()));
  }
  auto* const large = arena.create<Large>();
  large->words.back() = 9;
  auto* const aligned = arena.create<Aligned>();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(aligned) % 256, 0U);
  for (std::uint64_t i = 0; i < nodes.size(); ++i) {
    ASSERT_EQ(nodes[i]->value, i);
    ASSERT_EQ(nodes[i]->more, ~i);
    arena.destroy(nodes[i]);
    EXPECT_FALSE(arena.alive(nodes[i]));
  }
  arena.destroy(large);
  arena.destroy(aligned);
  arena.destroy(static_cast<Node*>(nullptr));
}

TEST(ArenaTest, DestructorsRunOnce) {
  struct Counted {
    int* count;
    explicit Counted(int* where) : count(where) {}
    ~Counted() { ++*count; }
  };
  int count = 0;
  Arena arena = Arena::reserve().value();
  auto* const object = arena.create<Counted>(&count);
  arena.destroy(object);
  EXPECT_EQ(count, 1);
}

TEST(ArenaTest, NoAddressTwice) {
  Arena arena = Arena::reserve().value();
  std::set<const void*> seen;
  for (int i = 0; i < 200'000; ++i) {
    auto* const node = arena.create<Node>();
    ASSERT_TRUE(seen.insert(node).second);
    arena.destroy(node);
  }
}

TEST(ArenaTest, AStaleReadOfADroppedPageIsReportedWithTypeAndObject) {
  Catcher catcher;
  Arena arena = Arena::reserve(catcher.options()).value();
  std::vector<Node*> nodes;
  for (int i = 0; i < 5000; ++i) nodes.push_back(arena.create<Node>());
  Node* const stale = nodes[700];
  for (Node* node : nodes) arena.destroy(node);
  ASSERT_GT(arena.statistics().pages_dropped, 10U);
  std::uint64_t value = 0;
  ASSERT_EQ(read_stale(catcher, &stale->more, value), Seen::fault);
  EXPECT_EQ(catcher.last.what, Misuse::stale_read);
  EXPECT_EQ(catcher.last.address, &stale->more);
  EXPECT_EQ(catcher.last.object, stale);
  EXPECT_NE(catcher.last.type.find("Node"), std::string_view::npos) << catcher.last.type;
  EXPECT_EQ(catcher.last.size_bytes, sizeof(Node));
  EXPECT_EQ(catcher.last.thread, ::gettid());
  if (sigsetjmp(catcher.out, 1) == 0) *const_cast<volatile std::uint64_t*>(&stale->value) = 1;
  EXPECT_EQ(catcher.last.what, Misuse::stale_write);
  EXPECT_EQ(catcher.count, 2);
}

TEST(ArenaTest, OtherwiseItFindsTheOldBytes) {
  Catcher catcher;
  Arena arena = Arena::reserve(catcher.options()).value();
  auto* const neighbour = arena.create<Node>(Node{nullptr, 1, 1});
  auto* const stale = arena.create<Node>(Node{nullptr, 4711, 2});
  arena.destroy(stale);
  for (std::uint64_t i = 0; i < 100'000; ++i)
    arena.destroy(arena.create<Node>(Node{neighbour, 5, 5}));
  std::uint64_t value = 0;
  ASSERT_EQ(read_stale(catcher, &stale->value, value), Seen::value);
  EXPECT_EQ(value, 4711U);
}

// Random lives of three types. A stale pointer finds a fault, or its own object's value.
TEST(ArenaTest, NeverAnotherObjectsData) {
  Catcher catcher;
  Arena arena = Arena::reserve(catcher.options()).value();
  std::mt19937 random(11);
  std::vector<std::pair<Node*, std::uint64_t>> live;
  std::vector<std::pair<Node*, std::uint64_t>> dead;
  std::vector<Small*> small;
  for (std::uint64_t i = 0; i < 60'000; ++i) {
    live.emplace_back(arena.create<Node>(Node{nullptr, i, i}), i);
    small.push_back(arena.create<Small>(Small{static_cast<std::uint32_t>(i)}));
    if (random() % 8 != 0) {
      std::swap(live[random() % live.size()], live.back());
      arena.destroy(live.back().first);
      dead.push_back(live.back());
      live.pop_back();
      arena.destroy(small.back());
    }
  }
  std::size_t faults = 0;
  for (const auto& [node, value] : dead) {
    std::uint64_t seen = 0;
    if (read_stale(catcher, &node->value, seen) == Seen::fault) {
      ++faults;
      ASSERT_EQ(catcher.last.object, node);
    } else {
      ASSERT_EQ(seen, value);
    }
  }
  for (const auto& [node, value] : live) ASSERT_EQ(node->value, value);
  EXPECT_GT(faults, 0U);
  EXPECT_LT(faults, dead.size());
}

TEST(ArenaTest, ALargeObjectsPagesGoAtOnce) {
  Catcher catcher;
  Arena arena = Arena::reserve(catcher.options()).value();
  auto* const large = arena.create<Large>();
  const std::size_t before = arena.statistics().pages_dropped;
  arena.destroy(large);
  EXPECT_GE(arena.statistics().pages_dropped - before, sizeof(Large) / 4096);
  std::uint64_t value = 0;
  ASSERT_EQ(read_stale(catcher, &large->words[77'777], value), Seen::fault);
  EXPECT_EQ(catcher.last.object, large);
}

std::size_t lines_of_maps() {
  std::ifstream maps("/proc/self/maps");
  std::size_t lines = 0;
  for (std::string line; std::getline(maps, line);) ++lines;
  return lines;
}

std::size_t status(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(name)) return std::stoul(line.substr(name.size()));
  return 0;
}

// 600 MiB of objects, 1,000 alive at a time: neither memory, nor page tables, nor mappings grow.
TEST(ArenaTest, DeadChunksCostNothing) {
  Catcher catcher;
  Arena arena = Arena::reserve(catcher.options()).value();
  std::vector<Page*> live(1000, nullptr);
  Page* const first = arena.create<Page>();
  live[0] = first;
  std::size_t tables = 0;
  const std::size_t maps = lines_of_maps();
  for (std::size_t i = 0; i < 150'000; ++i) {
    Page*& place = live[i % live.size()];
    arena.destroy(place);
    place = arena.create<Page>();
    if (i == 50'000) tables = status("VmPTE:");
  }
  EXPECT_GT(arena.statistics().chunks_dropped, 250U);
  EXPECT_LT(lines_of_maps(), maps + 20);
  if (SANITIZED == 0) {                         // shadows have page tables too
    EXPECT_LT(status("VmPTE:"), tables + 200);  // KiB; those of 400 MiB would be 800
  }
  std::byte value{};
  ASSERT_EQ(read_stale(catcher, &first->bytes[5], value), Seen::fault);
  EXPECT_EQ(catcher.last.object, first);
}

TEST(ArenaTest, WrongDestroysAreReportedAndDoNothing) {
  Catcher catcher;
  Arena arena = Arena::reserve(catcher.options()).value();
  auto* const node = arena.create<Node>(Node{nullptr, 3, 4});
  auto* const other = arena.create<Node>();
  arena.destroy(reinterpret_cast<Small*>(node));
  EXPECT_EQ(catcher.last.what, Misuse::of_another_type);
  EXPECT_TRUE(arena.alive(node));
  arena.destroy(reinterpret_cast<Node*>(&node->value));
  EXPECT_EQ(catcher.last.what, Misuse::not_an_object);
  EXPECT_EQ(catcher.last.object, node);
  Node on_stack;
  arena.destroy(&on_stack);
  EXPECT_EQ(catcher.last.what, Misuse::not_an_object);
  EXPECT_EQ(catcher.last.object, nullptr);
  arena.destroy(node);
  EXPECT_EQ(catcher.count, 3);
  arena.destroy(node);
  EXPECT_EQ(catcher.last.what, Misuse::destroyed_twice);
  EXPECT_EQ(catcher.last.object, node);
  EXPECT_EQ(catcher.count, 4);
  EXPECT_TRUE(arena.alive(other));
}

TEST(ArenaTest, AConstructorThatThrowsLeavesNoObject) {
  struct Throws {
    Throws() { throw std::runtime_error("no"); }
    std::array<std::byte, 4096> bytes;
  };
  Arena arena = Arena::reserve().value();
  for (int i = 0; i < 100; ++i) EXPECT_THROW(arena.create<Throws>(), std::runtime_error);
  EXPECT_GT(arena.statistics().pages_dropped, 50U);
}

TEST(ArenaTest, AddressesThatAreUsedUp) {
  ArenaOptions options;
  options.reserve_bytes = 2_MiB;
  Arena arena = Arena::reserve(options).value();
  std::vector<Page*> pages;
  EXPECT_THROW(for (;;) pages.push_back(arena.create<Page>()), std::bad_alloc);
  EXPECT_EQ(pages.size(), 512U);
  for (Page* page : pages) arena.destroy(page);
  EXPECT_THROW(arena.create<Page>(), std::bad_alloc);  // never again
  options.reserve_bytes = 0;
  EXPECT_EQ(Arena::reserve(options).error().number, EINVAL);
}

TEST(ArenaTest, ThreadsCreateAndDestroyEachOthersObjects) {
  constexpr int kThreads = 4;
  constexpr std::size_t kSlots = 512;
  Arena arena = Arena::reserve().value();
  std::array<std::atomic<Node*>, kSlots> slots{};
  std::atomic<std::size_t> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i < 100'000; ++i) {
        auto* const made = arena.create<Node>();
        made->value = reinterpret_cast<std::uintptr_t>(made);
        Node* const taken = slots[random() % kSlots].exchange(made);
        if (taken == nullptr) continue;
        if (taken->value != reinterpret_cast<std::uintptr_t>(taken)) wrong.fetch_add(1);
        arena.destroy(taken);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0U);
  std::size_t left = 0;
  for (auto& slot : slots)
    if (Node* const node = slot.load()) {
      EXPECT_TRUE(arena.alive(node));
      ++left;
    }
  EXPECT_EQ(left, kSlots);
  EXPECT_GT(arena.statistics().pages_dropped, 100U);
}

TEST(ArenaTest, AForkedChildTrapsToo) {
  Arena arena = Arena::reserve().value();
  std::vector<Page*> pages;
  for (int i = 0; i < 10; ++i) pages.push_back(arena.create<Page>());
  arena.destroy(pages[3]);
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGSEGV, SIG_DFL);
    static_cast<void>(*const_cast<volatile std::byte*>(&pages[2]->bytes[0]));
    static_cast<void>(*const_cast<volatile std::byte*>(&pages[3]->bytes[0]));
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) << status;
}

TEST(ArenaDeathTest, WithoutAHandlerTheLineIsOnStandardError) {
  if (SANITIZED != 0) GTEST_SKIP() << "the sanitizer ends the process in its own way";
  Arena arena = Arena::reserve().value();
  auto* const page = arena.create<Page>();
  arena.destroy(page);
  EXPECT_EXIT(
      static_cast<void>(*const_cast<volatile std::byte*>(&page->bytes[40])),
      testing::KilledBySignal(SIGSEGV),
      "read of a destroyed object: 0x[0-9a-f]+ is 40 bytes into the .*Page \\(4096 bytes\\) "
      "at 0x[0-9a-f]+, thread [0-9]+");
  EXPECT_EXIT(arena.destroy(page), testing::KilledBySignal(SIGABRT),
              "destroy\\(\\) of an object that was destroyed before");
}

}  // namespace
}  // namespace pagetrap::guard
