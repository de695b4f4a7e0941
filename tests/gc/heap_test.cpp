// One thread, each kind of object, each supply.
#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include <pagetrap/gc/gc.hpp>

#include "gc/supplies.hpp"
#include "gc/wipe_stack.hpp"

namespace pagetrap {
namespace {

struct Node : gc::object<Node> {
  gc::ref<Node> next;
  std::uint64_t value = 0;
  static constexpr auto members = gc::members(&Node::next);
};

struct Tree : gc::object<Tree> {
  gc::ref<Tree> left, right;
  static constexpr auto members = gc::members(&Tree::left, &Tree::right);
};

struct Text : gc::leaf<Text> {
  std::array<char, 24> bytes{};
};

class Heaps : public testing::TestWithParam<gc::PageSupply> {
 protected:
  static gc::Options small() {
    gc::Options options;
    options.supply = GetParam();
    options.nursery_bytes = 1_MiB;
    options.limit_bytes = 256_MiB;
    options.growth_bytes = 4_MiB;
    return options;
  }
};

Node* make_list(gc::Heap& heap, std::uint64_t length) {
  Node* list = nullptr;
  for (std::uint64_t i = 0; i < length; ++i) list = heap.make<Node>(list, i);
  return list;
}

std::uint64_t check_list(const Node* list) {
  std::uint64_t length = 0;
  const Node* last = nullptr;
  for (; list != nullptr; list = list->next) {
    if (last != nullptr && last->value != list->value + 1) return 0;
    last = list;
    ++length;
  }
  return length;
}

Tree* make_tree(gc::Heap& heap, int depth) {
  if (depth == 0) return heap.make<Tree>();
  Tree* const left = make_tree(heap, depth - 1);
  Tree* const right = make_tree(heap, depth - 1);
  return heap.make<Tree>(left, right);
}

std::size_t count(const Tree* tree) {
  return tree == nullptr ? 0 : 1 + count(tree->left) + count(tree->right);
}

TEST_P(Heaps, ObjectsAreZeroAndKeepWhatIsStored) {
  gc::Heap heap(small());
  gc::Mutator here(heap);
  Node* const node = heap.make<Node>();
  EXPECT_EQ(node->next, nullptr);
  EXPECT_EQ(node->value, 0U);
  node->value = 7;
  node->next = heap.make<Node>(nullptr, std::uint64_t{8});
  heap.collect();
  EXPECT_EQ(node->value, 7U);
  EXPECT_EQ(node->next->value, 8U);
  EXPECT_EQ(heap.supply(), GetParam());
}

TEST_P(Heaps, AListSurvivesManyCycles) {
  gc::Heap heap(small());
  gc::Mutator here(heap);
  gc::root<Node> list(heap, make_list(heap, 100000));
  for (int i = 0; i < 10; ++i) {
    heap.collect(i % 2 == 0);
    ASSERT_EQ(check_list(list), 100000U) << i;
  }
  EXPECT_GT(heap.statistics().copied_bytes, 90000U * 24);
}

TEST_P(Heaps, ReversingAListInPlace) {
  gc::Heap heap(small());
  gc::Mutator here(heap);
  gc::root<Node> list(heap, make_list(heap, 20000));
  for (int round = 0; round < 50; ++round) {
    Node* reversed = nullptr;
    for (Node* node = list; node != nullptr;) {
      Node* const next = node->next;
      node->next = reversed;
      reversed = node;
      node = next;
      heap.make<Text>();
    }
    list = reversed;
  }
  EXPECT_EQ(check_list(list), 20000U);
  EXPECT_GT(heap.statistics().cycles, 10U);
}

TEST_P(Heaps, TreesComeAndGo) {
  gc::Heap heap(small());
  gc::Mutator here(heap);
  gc::root<Tree> kept(heap, make_tree(heap, 14));
  for (int i = 0; i < 200; ++i) {
    Tree* const tree = make_tree(heap, 10);
    ASSERT_EQ(count(tree), 2047U);
  }
  heap.collect(false);
  EXPECT_EQ(count(kept), 32767U);
  EXPECT_GT(heap.statistics().cycles, 0U);
}

TEST_P(Heaps, GarbageIsFreed) {
  gc::Options options = small();
  options.limit_bytes = 32_MiB;
  gc::Heap heap(options);
  gc::Mutator here(heap);
  for (int i = 0; i < 400; ++i) make_list(heap, 10000);  // 96 MB
  gc::root<Node> list(heap);
  for (int i = 0; i < 40; ++i) list = make_list(heap, 100000);  // 2.4 MB alive, 96 MB in all
  EXPECT_EQ(check_list(list), 100000U);
}

// Whether the heap said that it is full. Not inlined, as what follows: pointers that are left on
// the stack would keep the list alive.
[[gnu::noinline]] bool fill(gc::Heap& heap) {
  gc::root<Node> list(heap);
  try {
    for (;;) list = heap.make<Node>(list, std::uint64_t{1});
  } catch (const gc::OutOfMemory& full) {
    return std::string(full.what()).find("limit_bytes") != std::string::npos;
  }
}

TEST_P(Heaps, TheLimitIsAnErrorThatTellsAndTheHeapGoesOn) {
  gc::Options options = small();
  options.limit_bytes = 16_MiB;
  gc::Heap heap(options);
  gc::Mutator here(heap);
  ASSERT_TRUE(fill(heap));
  wipe_stack();
  for (int i = 0; i < 100; ++i) make_list(heap, 10000);
}

TEST_P(Heaps, LargeArraysStayAndAreScanned) {
  gc::Heap heap(small());
  gc::Mutator here(heap);
  constexpr std::size_t kSize = 100000;
  gc::root<gc::array<gc::ref<Node>>> row(heap, heap.make_array<gc::ref<Node>>(kSize));
  const auto* const where = row.get();
  for (std::size_t i = 0; i < kSize; ++i) (*row)[i] = heap.make<Node>(nullptr, i);
  for (int round = 0; round < 6; ++round) {
    heap.collect(round % 2 == 0);
    for (std::size_t i = 0; i < kSize; i += 7)
      (*row)[i] = heap.make<Node>((*row)[i], (*row)[i]->value);
  }
  EXPECT_EQ(row.get(), where);
  for (std::size_t i = 0; i < kSize; ++i) ASSERT_EQ((*row)[i]->value, i);
}

TEST_P(Heaps, LargeGarbageIsFreed) {
  gc::Heap heap(small());
  gc::Mutator here(heap);
  for (int i = 0; i < 300; ++i) {
    auto* const row = heap.make_array<gc::ref<Node>>(100000);
    ASSERT_EQ((*row)[99999], nullptr);
    (*row)[99999] = heap.make<Node>();
    auto* const bytes = heap.make_array<char>(1000000);
    ASSERT_EQ((*bytes)[999999], 0);
    (*bytes)[999999] = 1;
  }
  heap.collect();
  heap.collect();
  EXPECT_LT(heap.statistics().used_bytes, 20_MiB);
}

TEST_P(Heaps, PointersOnTheStackPin) {
  gc::Heap heap(small());
  gc::Mutator here(heap);
  Text* const text = heap.make<Text>();
  std::strcpy(text->bytes.data(), "where it was");
  char* const inside = text->bytes.data() + 6;
  for (int i = 0; i < 5; ++i) {
    heap.collect();
    make_list(heap, 1000);
  }
  EXPECT_STREQ(inside, "it was");
}

// A minor cycle leaves old objects that nobody wrote closed to its own eyes: what they refer to is
// old. The one that was written is found by its page's mark.
TEST_P(Heaps, AnOldObjectKeepsTheYoungOneThatWasStoredInIt) {
  gc::Heap heap(small());
  gc::Mutator here(heap);
  gc::root<gc::array<gc::ref<Node>>> row(heap, heap.make_array<gc::ref<Node>>(500));
  heap.collect(false);
  for (std::uint64_t round = 1; round < 20; ++round) {
    for (std::size_t i = 0; i < 500; i += 50) (*row)[i] = heap.make<Node>(nullptr, round * i);
    heap.collect(false);
    make_list(heap, 30000);
    for (std::size_t i = 0; i < 500; i += 50) ASSERT_EQ((*row)[i]->value, round * i);
  }
}

// The collector writes a reference to a pinned young object into an old page by its own view: no
// mark tells.
TEST_P(Heaps, AnOldObjectThatRefersToAPinnedYoungOneIsRemembered) {
  gc::Heap heap(small());
  gc::Mutator here(heap);
  gc::root<Node> holder(heap);
  for (std::uint64_t round = 1000; round < 1030; ++round) {
    Node* volatile pinned = heap.make<Node>(nullptr, round);
    make_list(heap, 300);  // another page, so that the holder is not pinned with it
    holder = heap.make<Node>(pinned, std::uint64_t{1});
    make_list(heap, 300);
    heap.collect(false);  // the holder is old now, what it refers to is still young
    ASSERT_EQ(holder->next, pinned);
    pinned = nullptr;
    heap.collect(false);  // and now that may move
    make_list(heap, 60000);
    ASSERT_EQ(holder->next->value, round);
  }
}

INSTANTIATE_TEST_SUITE_P(, Heaps, testing::ValuesIn(tested_supplies()),
                         [](const auto& which) { return test_name(which.param); });

}  // namespace
}  // namespace pagetrap
