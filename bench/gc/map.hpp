// A hash map of many small objects under updates: the worst case for a collector that finds writes
// by pages, since the keys are uniformly random.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "gc/allocators.hpp"
#include "harness/clock.hpp"

namespace pagetrap::bench {

/// The map's objects as each allocator has them.
template <class Allocator>
struct MapTypes {
  struct Value {
    Value* tag = nullptr;
    std::array<std::uint64_t, 9> words{};
  };
  struct Entry {
    Entry* next = nullptr;
    Value* value = nullptr;
    std::uint64_t key = 0;
  };
  struct Temporary {
    Temporary* next = nullptr;
    std::array<std::uint64_t, 2> words{};
  };
};
template <template <class> class Ref>
struct MapTypes<CollectedAllocatorOf<Ref>> {
  struct Value : gc::object<Value> {
    Ref<Value> tag;
    std::array<std::uint64_t, 9> words{};
    static constexpr auto members = gc::members(&Value::tag);
  };
  struct Entry : gc::object<Entry> {
    Ref<Entry> next;
    Ref<Value> value;
    std::uint64_t key = 0;
    static constexpr auto members = gc::members(&Entry::next, &Entry::value);
  };
  struct Temporary : gc::object<Temporary> {
    Ref<Temporary> next;
    std::array<std::uint64_t, 2> words{};
    static constexpr auto members = gc::members(&Temporary::next);
  };
};

/// Bytes of an entry and its value, with what an allocator adds.
inline constexpr std::size_t kBytesPerKey = 128;

/// Half of the operations look a key up, four tenths give one a new value, one tenth deletes the
/// oldest key and adds another. Each makes four short-lived objects.
template <class Allocator>
class Map {
  using Types = MapTypes<Allocator>;
  using Value = typename Types::Value;
  using Entry = typename Types::Entry;
  using Temporary = typename Types::Temporary;

 public:
  Map(Allocator& allocator, std::size_t bytes)
      : allocator_(allocator),
        keys_(bytes / kBytesPerKey),
        table_(allocator, allocator.template make_row<Entry>(keys_)) {
    for (; high_ < keys_; ++high_) insert(high_);
  }

  /// Mean and longest time of an operation, in nanoseconds; both -1 if something was lost.
  struct Times {
    double mean = 0;
    double longest = 0;
  };
  Times run(std::size_t operations) {
    const double begin = now_ns();
    double last = begin;
    double longest = 0;
    for (std::size_t i = 0; i < operations; ++i) {
      if (!operate()) return {-1, -1};
      const double now = now_ns();
      longest = std::max(longest, now - last);
      last = now;
    }
    return {(last - begin) / static_cast<double>(operations), longest};
  }

 private:
  std::uint64_t random() {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return random_;
  }
  [[nodiscard]] std::size_t bucket(std::uint64_t key) const {
    key *= 0x9E3779B97F4A7C15U;
    return (key ^ key >> 29) % keys_;
  }
  Value* make_value(std::uint64_t key) {
    Value* const value = allocator_.template make<Value>();
    for (std::size_t i = 0; i < value->words.size(); ++i) value->words[i] = key + i;
    return value;
  }
  void insert(std::uint64_t key) {
    Value* const value = make_value(key);
    auto& slot = Allocator::element(table_.get(), bucket(key));
    Entry* const entry = allocator_.template make<Entry>();
    entry->next = slot;
    entry->value = value;
    entry->key = key;
    slot = entry;
  }
  Entry* find(std::uint64_t key) {
    Entry* entry = Allocator::element(table_.get(), bucket(key));
    while (entry != nullptr && entry->key != key) entry = entry->next;
    return entry;
  }
  bool erase(std::uint64_t key) {
    auto& slot = Allocator::element(table_.get(), bucket(key));
    Entry* before = nullptr;
    Entry* entry = slot;
    for (; entry != nullptr && entry->key != key; entry = entry->next) before = entry;
    if (entry == nullptr) return false;
    if (before != nullptr) {
      before->next = entry->next;
    } else {
      slot = entry->next;
    }
    allocator_.drop(static_cast<Value*>(entry->value));
    allocator_.drop(entry);
    return true;
  }
  bool update(std::uint64_t key) {
    Value* const fresh = make_value(key);
    Entry* const entry = find(key);
    if (entry == nullptr) return false;
    allocator_.drop(static_cast<Value*>(entry->value));
    entry->value = fresh;
    return true;
  }
  bool look_up(std::uint64_t key) {
    const Entry* const entry = find(key);
    return entry != nullptr && entry->value->words[3] == key + 3;
  }
  bool operate() {
    const std::uint64_t key = low_ + random() % (high_ - low_);
    Temporary* list = nullptr;
    for (std::uint64_t i = 0; i < 4; ++i) {
      Temporary* const next = list;
      list = allocator_.template make<Temporary>();
      list->next = next;
      list->words[0] = key;
    }
    const std::uint64_t what = random() % 10;
    bool found = true;
    if (what < 5) {
      found = look_up(key);
    } else if (what < 9) {
      found = update(key);
    } else {
      found = erase(low_++);
      insert(high_++);
    }
    while (list != nullptr) {
      Temporary* const next = list->next;
      found = found && list->words[0] == key;
      allocator_.drop(list);
      list = next;
    }
    return found;
  }

  Allocator& allocator_;
  std::size_t keys_;
  typename Allocator::template RowKeeper<Entry> table_;
  std::uint64_t low_ = 0;
  std::uint64_t high_ = 0;
  std::uint64_t random_ = 88172645463325252U;
};

}  // namespace pagetrap::bench
