// Where typed blocks have pointers: each container that pagetrap knows is filled in a store of its
// own, and every word of that looked at.
#include <cstring>

#include "store/typed.hpp"

namespace pagetrap::store {
namespace {

using namespace typed;

struct alignas(32) Wide {
  char letter = 'w';
  Wide* self = nullptr;
};

}  // namespace

template <>
struct Pointers<Wide> : Members<&Wide::letter, &Wide::self> {};

namespace {

// Counted at compile time where that is possible.
static_assert(Described<Person> && Described<World> && Described<Vector<World*>>);
static_assert(!Described<std::string> && !Described<std::pmr::vector<int>>);
static_assert(!Described<std::pair<int, std::vector<int>>>);
static_assert(!Described<void> && Described<void*> && Described<std::byte>);

struct Counts {
  std::size_t marked = 0;
  std::size_t addresses = 0;
  std::size_t missed = 0;  // addresses of the store that are not marked
  std::size_t wrong = 0;   // marked, and neither null nor an address of the store
};

class Layouts : public ::testing::Test {
 protected:
  /// Everything behind the header and the heap's own tables.
  Counts count() {
    StoreState& state = StoreState::of(*store_);
    const auto base = reinterpret_cast<std::uintptr_t>(state.range().base) - kOwnBytes;
    Counts counts;
    const auto* const words = reinterpret_cast<const std::uint64_t*>(state.range().base);
    const std::uint64_t used = state.heap().header().used_pages;
    for (std::uint64_t i = kHotPages * kWordsOfPage; i < used * kWordsOfPage; ++i) {
      const bool address = words[i] - base <= kOwnBytes + state.range().size_bytes();
      const bool marked = state.heap().map().is_marked(i * 8);
      counts.marked += marked ? 1 : 0;
      counts.addresses += address ? 1 : 0;
      counts.missed += address && !marked ? 1 : 0;
      counts.wrong += marked && !address && words[i] != 0 ? 1 : 0;
    }
    return counts;
  }
  /// Nothing is given back by `fill`, so that all there is is alive.
  template <class T, class Fill>
  void expect_exact(std::size_t least, Fill&& fill) {
    std::uint64_t freed = 0;
    EXPECT_OK(store_->transaction([&] {
      T& made = *store_->make<T>();
      store_->root<std::array<T*, 1>>("it").value()->front() = &made;
      fill(made);
      for (const HeapHeader::Class& blocks : StoreState::of(*store_).heap().header().classes)
        freed += blocks.free != nullptr ? 1 : 0;
    }));
    EXPECT_EQ(freed, 0U);
    const Counts counts = count();
    EXPECT_GE(counts.addresses, least);
    EXPECT_EQ(counts.missed, 0U);
    EXPECT_EQ(counts.wrong, 0U);
    EXPECT_EQ(store_->statistics().untyped_bytes, 0U);
  }
  Folder folder_;
  std::optional<Store> store_ = Store::open(folder_.file("a.store"), small_store()).value();
};

TEST_F(Layouts, VectorOfPointers) {
  expect_exact<Vector<Person*>>(1000, [&](Vector<Person*>& vector) {
    vector.reserve(1000);
    Person* const person = store_->make<Person>();
    for (int i = 0; i < 1000; ++i) vector.push_back(person);
  });
}

TEST_F(Layouts, VectorOfNumbersHasNone) {
  expect_exact<Vector<std::uint64_t>>(4, [](Vector<std::uint64_t>& vector) {
    vector.resize(50'000);
    for (std::uint64_t& number : vector) number = 1;
  });
  EXPECT_LT(count().marked, 40U);
}

TEST_F(Layouts, VectorOfBits) {
  expect_exact<Vector<bool>>(4, [](Vector<bool>& bits) { bits.resize(5000, true); });
}

TEST_F(Layouts, ShortAndLongTexts) {
  expect_exact<Vector<Text>>(400, [](Vector<Text>& texts) {
    texts.reserve(200);
    for (std::size_t i = 0; i < 200; ++i) texts.emplace_back(i, 'x');
  });
}

// Text that looks like an address of the store: typed blocks are not asked.
TEST_F(Layouts, TextIsNeverAPointer) {
  EXPECT_OK(store_->transaction([&] {
    Text& text = *store_->make<Text>();
    text.resize(8);
    const auto address = reinterpret_cast<std::uintptr_t>(&text);
    std::memcpy(text.data(), &address, sizeof address);
    EXPECT_FALSE(StoreState::of(*store_).heap().map().is_marked(static_cast<std::uint64_t>(
        reinterpret_cast<std::byte*>(text.data()) - store_->range().base)));
  }));
}

TEST_F(Layouts, MapsAndSets) {
  expect_exact<Map<int, Text>>(1200, [](Map<int, Text>& map) {
    for (int i = 0; i < 300; ++i) map.try_emplace(i, std::size_t(i % 40), 'y');
  });
}

TEST_F(Layouts, MapWithAShortKey) {
  expect_exact<Map<char, Person>>(200, [](Map<char, Person>& map) {
    for (char i = 0; i < 100; ++i) map.try_emplace(i);
  });
}

TEST_F(Layouts, HashTables) {
  expect_exact<Table<std::uint32_t, Text>>(900, [](Table<std::uint32_t, Text>& table) {
    table.reserve(300);
    for (std::uint32_t i = 0; i < 300; ++i) table.try_emplace(i, i % 40, 'z');
  });
}

// Their hash codes are remembered, and look like anything.
TEST_F(Layouts, HashTablesOfTexts) {
  expect_exact<Table<Text, Person*, TextHash>>(600, [](Table<Text, Person*, TextHash>& table) {
    table.reserve(300);
    for (int i = 0; i < 300; ++i) table.try_emplace(Text(std::to_string(i)));
  });
}

TEST_F(Layouts, Lists) {
  expect_exact<List<Person>>(200, [](List<Person>& list) {
    for (int i = 0; i < 100; ++i) list.emplace_back().next = &list.front();
  });
}

TEST_F(Layouts, ForwardLists) {
  using Forward = std::forward_list<Text, Allocator<Text>>;
  expect_exact<Forward>(200, [](Forward& list) {
    for (int i = 0; i < 100; ++i) list.emplace_front("short");
  });
}

TEST_F(Layouts, Deques) {
  using Deque = std::deque<Person, Allocator<Person>>;
  expect_exact<Deque>(70, [](Deque& deque) {
    for (int i = 0; i < 60; ++i) deque.emplace_back().next = &deque.front();
  });
}

TEST_F(Layouts, NodesOfAlignedValues) {
  using Aligned = std::map<char, Wide, std::less<>, Allocator<std::pair<const char, Wide>>>;
  expect_exact<Aligned>(60, [](Aligned& map) {
    for (char i = 0; i < 20; ++i) map[i].self = &map[i];
  });
}
TEST_F(Layouts, HashNodesOfAlignedValues) {
  expect_exact<Table<char, Wide>>(40, [](Table<char, Wide>& table) {
    table.reserve(50);
    for (char i = 0; i < 20; ++i) table[i].self = &table[i];
  });
}
TEST_F(Layouts, ListNodesOfAlignedValues) {
  expect_exact<List<Wide>>(60, [](List<Wide>& list) {
    for (int i = 0; i < 20; ++i) list.emplace_back().self = &list.back();
  });
}

TEST_F(Layouts, ContainersInContainers) {
  using Nested = Map<int, Vector<List<int>>>;
  expect_exact<Nested>(300, [](Nested& nested) {
    for (int i = 0; i < 30; ++i) {
      auto& lists = nested[i];
      lists.reserve(3);
      for (int j = 0; j < 3; ++j) lists.emplace_back().push_back(j);
      ASSERT_NE(lists[0].get_allocator().memory(), nullptr);
    }
  });
}

TEST_F(Layouts, EverythingAtOnce) {
  expect_exact<World>(40, [](World&) {});
}

TEST_F(Layouts, AnArrayOfAWholeStructure) {
  using Many = std::array<Person, 3000>;
  expect_exact<Many>(3000, [](Many& many) {
    for (Person& person : many) person.next = &many[7];
  });
}

// Freed memory has the heap's own links in it, whatever was there before.
TEST_F(Layouts, LinksOfFreeBlocksAreMarked) {
  EXPECT_OK(store_->transaction([&] {
    auto& numbers = *store_->make<List<std::uint64_t>>();
    for (int i = 0; i < 100; ++i) Vector<std::uint64_t>(2, 5, store_->typed_allocator());
    numbers.resize(50);
    numbers.clear();
    const Heap& heap = StoreState::of(*store_).heap();
    for (const HeapHeader::Class& blocks : heap.header().classes)
      for (FreeBlock* block = blocks.free; block != nullptr; block = block->next)
        EXPECT_TRUE(heap.map().is_marked(heap.runs().place_of(block)));
  }));
}

// Blocks and roots that were there before there was a map.
TEST_F(Layouts, AMapThatIsMadeLateHasWhatIsFree) {
  using Plain = std::pmr::vector<std::pmr::string>;
  auto& plain = *store_->root<Plain>("plain").value();
  EXPECT_OK(store_->transaction([&] {
    for (int i = 0; i < 500; ++i)
      plain.emplace_back("a text that has a block of its own, freed later");
  }));
  EXPECT_FALSE(StoreState::of(*store_).heap().map().exists());
  EXPECT_OK(store_->transaction([&] { plain.resize(100); }));
  EXPECT_GT(store_->statistics().untyped_bytes, 0U);
  EXPECT_OK(store_->transaction([&] { store_->root<std::uint64_t>("number").value(); }));
  EXPECT_OK(store_->erase<Plain>("plain"));
  EXPECT_EQ(store_->statistics().untyped_bytes, 0U);
  const Heap& heap = StoreState::of(*store_).heap();
  std::size_t links = 0;
  for (const HeapHeader::Class& blocks : heap.header().classes)
    for (FreeBlock* block = blocks.free; block != nullptr; block = block->next, ++links)
      EXPECT_TRUE(heap.map().is_marked(heap.runs().place_of(block)));
  EXPECT_GT(links, 400U);
}

// The end of the reserve: a map that does not fit is no map, and what was allocated is given back.
TEST_F(Layouts, AStoreThatIsFullSaysSo) {
  const auto before = store_->statistics();
  EXPECT_OK(store_->transaction([&] {
    auto& vectors = *store_->make<List<Vector<std::uint64_t>>>();
    for (std::size_t size = 64_MiB; size >= 8;) {
      try {
        vectors.emplace_back().reserve(size / 8);
      } catch (const std::bad_alloc&) {
        if (!vectors.empty() && vectors.back().capacity() == 0) vectors.pop_back();
        size /= 2;
      }
    }
    EXPECT_GT(StoreState::of(*store_).heap().header().used_pages, 256_MiB / kPageBytes - 64);
    vectors.clear();
    store_->typed_allocator<List<Vector<std::uint64_t>>>().deallocate(&vectors, 1);
  }));
  EXPECT_EQ(store_->statistics().allocated_bytes, before.allocated_bytes);
  EXPECT_EQ(store_->statistics().untyped_bytes, 0U);
}

}  // namespace
}  // namespace pagetrap::store
