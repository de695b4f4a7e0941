// Weak references and destructors: exactly once, and not before.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include <pagetrap/gc/gc.hpp>

#include "gc/supplies.hpp"
#include "gc/wipe_stack.hpp"

namespace pagetrap {
namespace {

struct Link : gc::object<Link> {
  gc::ref<Link> next;
  std::uint64_t value = 0;
  static constexpr auto members = gc::members(&Link::next);
};

std::atomic<int> g_ended{0};
std::array<std::atomic<int>, 4096> g_endings;

/// Has a destructor, and references.
struct Counted : gc::object<Counted> {
  gc::ref<Counted> left, right;
  std::size_t number = 0;
  ~Counted() {
    g_ended.fetch_add(1);
    if (number < g_endings.size()) g_endings[number].fetch_add(1);
  }
  static constexpr auto members = gc::members(&Counted::left, &Counted::right);
};

class Endings : public testing::TestWithParam<gc::PageSupply> {
 protected:
  void SetUp() override {
    g_ended = 0;
    for (auto& each : g_endings) each = 0;
  }
  static gc::Options small() {
    gc::Options options;
    options.supply = GetParam();
    options.nursery_bytes = 256_KiB;
    options.limit_bytes = 128_MiB;
    return options;
  }
};

[[gnu::noinline]] void fill_page(gc::Heap& heap) {
  for (int i = 0; i < 400; ++i) heap.make<Link>();
}

// Makes what only `weak` refers to, in pages of its own.
[[gnu::noinline]] void point(gc::Heap& heap, gc::weak<Link>& weak, std::uint64_t value) {
  fill_page(heap);
  weak = heap.make<Link>(nullptr, value);
  fill_page(heap);
}

// Not inlined, as what else looks at the object: a frame that has pointed to it may go on doing so.
[[gnu::noinline]] bool is_set(const gc::weak<Link>& weak) { return weak.get() != nullptr; }

TEST_P(Endings, AWeakReferenceIsNullWhenItsObjectIsDead) {
  gc::Heap heap(small());
  gc::Mutator here(heap);
  gc::weak<Link> weak(heap);
  EXPECT_EQ(weak.get(), nullptr);
  point(heap, weak, 5);
  ASSERT_TRUE(is_set(weak));
  wipe_stack();
  heap.collect(false);
  EXPECT_FALSE(is_set(weak));
}

[[gnu::noinline]] void keep(gc::root<Link>& root, const gc::weak<Link>& weak) { root = weak.get(); }
[[gnu::noinline]] bool is_kept(const gc::root<Link>& root, const gc::weak<Link>& weak) {
  return weak.get() != nullptr && weak.get() == root.get() && weak.get()->value == 7;
}

TEST_P(Endings, AWeakReferenceFollowsAnObjectThatMoves) {
  gc::Heap heap(small());
  gc::Mutator here(heap);
  gc::weak<Link> weak(heap);
  gc::root<Link> root(heap);
  point(heap, weak, 7);
  keep(root, weak);
  for (const bool full : {false, true, false, true}) {
    wipe_stack();
    heap.collect(full);
    ASSERT_TRUE(is_kept(root, weak));
  }
  root = nullptr;
  wipe_stack();
  heap.collect(true);
  EXPECT_EQ(weak.get(), nullptr);
}

// Whoever asks in the middle of a cycle either gets the object, and then it is alive, or null for
// ever.
TEST_P(Endings, AWeakReferenceIsAskedWhileCyclesRun) {
  gc::Heap heap(small());
  gc::Mutator here(heap);
  std::vector<gc::weak<Link>> weaks;
  std::vector<gc::root<Link>> roots;
  for (std::uint64_t i = 0; i < 200; ++i) {
    weaks.emplace_back(heap);
    roots.emplace_back(heap, heap.make<Link>(nullptr, i));
    weaks.back() = roots.back().get();
  }
  std::atomic<bool> done{false};
  std::thread collecting([&] {
    while (!done.load()) heap.collect(false);
  });
  for (int round = 0; round < 200; ++round) {
    for (std::uint64_t i = 0; i < 200; ++i) {
      Link* const link = weaks[i].get();
      if (link == nullptr) {
        ASSERT_EQ(roots[i].get(), nullptr);
        roots[i] = heap.make<Link>(nullptr, i);
        weaks[i] = roots[i].get();
      } else {
        ASSERT_EQ(link->value, i);
        if (roots[i].get() != nullptr) {
          ASSERT_EQ(link, roots[i].get());
        }
        roots[i] = (round + static_cast<int>(i)) % 3 == 0 ? nullptr : link;
      }
    }
    fill_page(heap);
  }
  done = true;
  here.blocking([&] { collecting.join(); });
}

[[gnu::noinline]] Counted* make_tree(gc::Heap& heap, int depth, std::size_t& number) {
  if (depth < 0) return nullptr;
  Counted* const left = make_tree(heap, depth - 1, number);
  Counted* const right = make_tree(heap, depth - 1, number);
  Counted* const node = heap.make<Counted>();
  node->left = left;
  node->right = right;
  node->number = number++;
  return node;
}

// MPS's finaltest: every node of a tree is finalized exactly once.
TEST_P(Endings, DestructorsRunOnceForEachNodeOfATree) {
  constexpr std::size_t kNodes = 2047;
  {
    gc::Heap heap(small());
    gc::Mutator here(heap);
    std::size_t number = 0;
    gc::root<Counted> tree(heap, make_tree(heap, 10, number));
    ASSERT_EQ(number, kNodes);
    for (const bool full : {false, true, false}) heap.collect(full);
    EXPECT_EQ(g_ended, 0);
    tree = nullptr;
    wipe_stack();
    for (int i = 0; i < 3; ++i) {
      heap.collect(true);
      fill_page(heap);
      wipe_stack();
    }
    // What the stack points to by accident may be alive, with what is below it.
    EXPECT_GT(g_ended, static_cast<int>(kNodes / 2));
    EXPECT_EQ(heap.statistics().finalized, static_cast<std::uint64_t>(g_ended.load()));
  }
  EXPECT_EQ(g_ended, static_cast<int>(kNodes));
  for (std::size_t i = 0; i < kNodes; ++i) ASSERT_EQ(g_endings[i], 1) << i;
}

TEST_P(Endings, TheEndOfTheHeapRunsDestructorsOfTheLiving) {
  {
    gc::Heap heap(small());
    gc::Mutator here(heap);
    std::size_t number = 0;
    gc::root<Counted> tree(heap, make_tree(heap, 3, number));
    heap.collect();
  }
  EXPECT_EQ(g_ended, 15);
}

INSTANTIATE_TEST_SUITE_P(, Endings, testing::ValuesIn(tested_supplies()),
                         [](const auto& which) { return test_name(which.param); });

}  // namespace
}  // namespace pagetrap
