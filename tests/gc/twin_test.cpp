// The twins: barriers in instructions over the same collector. shadow_test.cpp has them too.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

#include <pagetrap/gc/gc.hpp>

#include "gc/supplies.hpp"

namespace pagetrap {
namespace {

/// A kind of reference, and the supplies that it goes over.
template <template <class> class Reference, gc::Barriers kBarriers>
struct Kind {
  static constexpr gc::Barriers barriers = kBarriers;

  struct Node : gc::object<Node> {
    Reference<Node> next;
    std::uint64_t value = 0;
    static constexpr auto members = gc::members(&Node::next);
  };
  /// Larger than a page; its constructor collects between its two references.
  class Big : public gc::object<Big> {
   public:
    explicit Big(gc::Heap& heap)
        : first_(heap.make<Node>(nullptr, std::uint64_t{1})), last_(collected(heap)) {}
    std::uint64_t sum() const { return first_->value + last_->value; }

   private:
    static Node* collected(gc::Heap& heap) {
      heap.collect(false);
      return heap.make<Node>(nullptr, std::uint64_t{2});
    }
    Reference<Node> first_;
    std::array<std::uint64_t, 1000> words_{};
    Reference<Node> last_;

   public:
    static constexpr auto members = gc::unchecked_members(&Big::first_, &Big::last_);
  };
  /// Its destructor stores.
  class Dying : public gc::object<Dying> {
   public:
    ~Dying() { next_ = nullptr; }

   private:
    Reference<Dying> next_;

   public:
    static constexpr auto members = gc::unchecked_members(&Dying::next_);
  };
  using Row = gc::array<Reference<Node>>;
  /// As large as a card.
  struct Wide : gc::object<Wide> {
    Reference<Node> node;
    std::array<std::uint64_t, 62> words{};
    static constexpr auto members = gc::members(&Wide::node);
  };
  using WideRow = gc::array<Reference<Wide>>;

  static std::vector<gc::PageSupply> supplies() {
    if (SANITIZED_THREADS != 0 && has(barriers, gc::Barriers::checked_loads)) return {};
    if (has(barriers, gc::Barriers::checked_loads)) return {gc::PageSupply::best};
    return tested_supplies();
  }
  static gc::Options options(gc::PageSupply supply) {
    gc::Options options;
    options.supply = supply;
    options.barriers = barriers;
    options.nursery_bytes = 256_KiB;
    options.limit_bytes = 256_MiB;
    return options;
  }
};

/// Fills what has been freed with something else.
template <class Kind>
void use_memory_again(gc::Heap& heap) {
  for (int i = 0; i < 40000; ++i) heap.make<typename Kind::Node>(nullptr, ~std::uint64_t{0});
}

template <class Kind>
class Twins : public testing::Test {};
using Kinds = testing::Types<Kind<gc::checked_ref, gc::Barriers::checked_loads>,
                             Kind<gc::carded_ref, gc::Barriers::carded_stores>,
                             Kind<gc::instructed_ref, gc::Barriers::both>>;
TYPED_TEST_SUITE(Twins, Kinds);

TYPED_TEST(Twins, AnOldObjectKeepsWhatWasStoredInIt) {
  using Node = typename TypeParam::Node;
  for (const gc::PageSupply supply : TypeParam::supplies()) {
    gc::Heap heap(TypeParam::options(supply));
    gc::Mutator here(heap);
    gc::root<typename TypeParam::Row> row(
        heap, heap.make_array<typename TypeParam::Row::value_type>(5000));
    for (std::size_t i = 0; i < row->size(); ++i) (*row)[i] = heap.make<Node>(nullptr, i);
    for (std::uint64_t round = 1; round < 20; ++round) {
      // Of each node, of some, of one.
      for (std::size_t i = 0; i < row->size(); i += round * round)
        (*row)[i]->next = heap.make<Node>(nullptr, i + round);
      if (round % 3 == 0) (*row)[7] = heap.make<Node>(nullptr, std::uint64_t{7});
      heap.collect(round % 7 == 0);
      use_memory_again<TypeParam>(heap);
      for (std::size_t i = 0; i < row->size(); i += round * round) {
        ASSERT_EQ((*row)[i]->value, i);
        if (i == 7 && round % 3 == 0) continue;
        ASSERT_EQ((*row)[i]->next->value, i + round);
      }
    }
  }
}

TYPED_TEST(Twins, ALargeObjectMayBeCollectedWhileItIsMade) {
  using Big = typename TypeParam::Big;
  for (const gc::PageSupply supply : TypeParam::supplies()) {
    gc::Heap heap(TypeParam::options(supply));
    gc::Mutator here(heap);
    std::vector<gc::root<Big>> all;
    for (int i = 0; i < 10; ++i) all.emplace_back(heap, heap.make<Big>(heap));
    for (int i = 0; i < 3; ++i) {
      heap.collect(false);
      use_memory_again<TypeParam>(heap);
      for (const auto& big : all) ASSERT_EQ(big->sum(), 3U);
    }
  }
}

TYPED_TEST(Twins, DestructorsMayStore) {
  for (const gc::PageSupply supply : TypeParam::supplies()) {
    gc::Heap heap(TypeParam::options(supply));
    {
      gc::Mutator here(heap);
      for (int i = 0; i < 10000; ++i) heap.make<typename TypeParam::Dying>();
    }
    heap.collect(true);
    EXPECT_GT(heap.statistics().finalized, 9000U);
    gc::Mutator here(heap);
    for (int i = 0; i < 10; ++i) heap.make<typename TypeParam::Dying>();
  }
}

TYPED_TEST(Twins, TwoHeapsInOneThread) {
  using Node = typename TypeParam::Node;
  for (const gc::PageSupply supply : TypeParam::supplies()) {
    gc::Heap outer(TypeParam::options(supply));
    gc::Mutator here(outer);
    gc::root<Node> list(outer);
    for (std::uint64_t i = 0; i < 50; ++i) {
      list = outer.make<Node>(list, i);
      {
        gc::Heap inner(TypeParam::options(supply));
        gc::Mutator there(inner);
        gc::root<Node> other(inner, inner.make<Node>());
        outer.collect(i % 3 == 0);
        inner.collect(false);
        other->next = inner.make<Node>(nullptr, i);
        inner.collect(false);
        ASSERT_EQ(other->next->value, i);
      }
      outer.collect(false);
      list->next = outer.make<Node>(list->next, i + 1000);
      outer.collect(false);
      ASSERT_EQ(list->next->value, i + 1000);
    }
  }
}

// The only reference to each new node is the one that is stored while others flip; and few stores
// come to one card, so that no other one marks it.
TYPED_TEST(Twins, StoresAndLoadsAgainstFlips) {
  using Node = typename TypeParam::Node;
  using Wide = typename TypeParam::Wide;
  using Row = typename TypeParam::WideRow;
  const std::uint64_t seed = std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  for (const gc::PageSupply supply : TypeParam::supplies()) {
    gc::Heap heap(TypeParam::options(supply));
    std::atomic<bool> done{false};
    std::atomic<std::uint64_t> wrong{0};
    const auto work = [&](std::uint64_t random) {
      gc::Mutator here(heap);
      constexpr std::size_t kWide = 4000;
      gc::root<Row> row(heap, heap.make_array<typename Row::value_type>(kWide));
      for (std::size_t i = 0; i < kWide; ++i) (*row)[i] = heap.make<Wide>();
      std::vector<std::uint64_t> expected(kWide, 0);
      const auto check = [&](std::size_t i) {
        const Node* const node = (*row)[i]->node;
        if (expected[i] != (node == nullptr ? 0 : node->value)) ++wrong;
      };
      for (std::uint64_t made = 1; !done.load(std::memory_order_relaxed); ++made) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        const std::size_t i = (random >> 33) % kWide;
        check(i);
        (*row)[i]->node = heap.make<Node>(nullptr, made);
        expected[i] = made;
      }
      for (std::size_t i = 0; i < kWide; ++i) check(i);
    };
    std::vector<std::thread> threads;
    for (std::uint64_t i = 1; i <= 3; ++i) threads.emplace_back(work, seed + i);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    while (std::chrono::steady_clock::now() < end) heap.collect(false);
    done = true;
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0U) << gc::name(supply);
    EXPECT_GT(heap.statistics().cycles, 10U);
  }
}

// What a signal between a store and its mark does, step by step: the slot's address is on the
// stack, and the mark goes to the table that was there before.
template <class Kind>
[[gnu::noinline]] void store_without_mark(gc::Heap& heap, void* slot, std::uint64_t value) {
  using Node = typename Kind::Node;
  *static_cast<Node**>(slot) = heap.make<Node>(nullptr, value);
}

TYPED_TEST(Twins, AFlipBetweenAStoreAndItsMark) {
  using Wide = typename TypeParam::Wide;
  if (!has(TypeParam::barriers, gc::Barriers::carded_stores)) return;
  for (const gc::PageSupply supply : TypeParam::supplies()) {
    gc::Heap heap(TypeParam::options(supply));
    gc::Mutator here(heap);
    // Few, whose pages are closed one by one; and many.
    for (const std::size_t count : {std::size_t{8}, std::size_t{100}}) {
      gc::root<typename TypeParam::WideRow> row(
          heap, heap.make_array<typename TypeParam::WideRow::value_type>(1000));
      for (std::size_t i = 0; i < row->size(); ++i) (*row)[i] = heap.make<Wide>();
      for (int i = 0; i < 3; ++i) heap.collect(false);
      std::array<void*, 100> slots{};
      for (std::size_t i = 0; i < count; ++i) {
        slots[i] = &(*row)[i * 9]->node;
        store_without_mark<TypeParam>(heap, slots[i], i);
      }
      std::uint8_t* const cards = gc::detail::barriers.cards;
      heap.collect(false);
      for (std::size_t i = 0; i < count; ++i)
        cards[reinterpret_cast<std::uintptr_t>(slots[i]) >> gc::detail::BarrierState::kCardShift] =
            1;
      use_memory_again<TypeParam>(heap);
      for (std::size_t i = 0; i < count; ++i)
        ASSERT_EQ((*row)[i * 9]->node->value, i) << gc::name(supply);
    }
  }
}

TYPED_TEST(Twins, TypesMustHaveTheBarriersOfTheHeap) {
  for (const gc::PageSupply supply : TypeParam::supplies()) {
    gc::Options options = TypeParam::options(supply);
    options.barriers = gc::Barriers::pages;
    options.supply = gc::PageSupply::none;
    gc::Heap heap(options);
    gc::Mutator here(heap);
    EXPECT_THROW(heap.make<typename TypeParam::Node>(), SystemError);
    EXPECT_THROW(heap.make_array<typename TypeParam::Row::value_type>(3), SystemError);
    EXPECT_NE(heap.make_array<int>(3), nullptr);
  }
}

TEST(Twin, CheckedLoadsNeedASupplyThatFindsWritesBesideTheProgram) {
  gc::Options options;
  options.barriers = gc::Barriers::checked_loads;
  options.supply = gc::PageSupply::mprotect;
  const auto heap = gc::Heap::create(options);
  ASSERT_FALSE(heap);
  EXPECT_EQ(heap.error().number, EINVAL);
}

TEST(Twin, CheckedLoadsClearWeakReferences) {
  if (SANITIZED_THREADS != 0) GTEST_SKIP() << "see supplies.hpp";
  using Checked = Kind<gc::checked_ref, gc::Barriers::checked_loads>;
  gc::Heap heap(Checked::options(gc::PageSupply::best));
  gc::Mutator here(heap);
  gc::root<Checked::Node> kept(heap, heap.make<Checked::Node>());
  kept->next = heap.make<Checked::Node>(nullptr, std::uint64_t{5});
  std::vector<gc::weak<Checked::Node>> weaks;
  for (int i = 0; i < 1000; ++i) weaks.emplace_back(heap, heap.make<Checked::Node>());
  gc::weak<Checked::Node> alive(heap, kept->next);
  for (int i = 0; i < 20000; ++i) heap.make<Checked::Node>();
  heap.collect(true);
  EXPECT_EQ(alive.get(), kept->next.get());
  std::size_t dead = 0;
  for (const auto& weak : weaks) dead += weak.get() == nullptr ? 1 : 0;
  EXPECT_GT(dead, 700U);  // but for those beside what a stack points to
}

}  // namespace
}  // namespace pagetrap
