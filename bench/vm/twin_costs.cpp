#include "vm/twin_costs.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>

#include "harness/clock.hpp"
#include "harness/mapping.hpp"
#include "harness/statistics.hpp"
#include "twins/card_mark.hpp"
#include "twins/limit_check.hpp"
#include "twins/read_barrier.hpp"

namespace pagetrap::bench {

namespace {

struct Object {
  Object* next;   // a random cycle through all objects
  Object* other;  // what the write barriers' loops store to
  std::uint64_t payload[2];
};

constexpr std::size_t kObjects = 1 << 14;  // half a MiB: in the second-level cache
constexpr std::size_t kOperations = kObjects * 4;
constexpr std::size_t kObjectBytes = sizeof(Object);
constexpr std::size_t kNurseryBytes = kObjects * kObjectBytes;

/// Keeps the compiler from knowing `value`, and so from removing or merging what leads to it.
template <class T>
[[gnu::always_inline]] inline void keep(T& value) {
  asm volatile("" : "+r"(value) : : "memory");
}

class Heap {
 public:
  Heap() : memory_(kObjects * sizeof(Object)) {
    std::vector<std::uint32_t> order(kObjects);
    std::iota(order.begin(), order.end(), 0U);
    std::shuffle(order.begin(), order.end(), std::mt19937(3));
    for (std::size_t i = 0; i < kObjects; ++i) {
      objects()[order[i]] = {&objects()[order[(i + 1) % kObjects]], nullptr, {i, i}};
    }
  }
  [[nodiscard]] Object* objects() const noexcept {
    return reinterpret_cast<Object*>(memory_.data());
  }
  /// An object that the hardware's prefetcher finds, and the compiler does not fold.
  [[nodiscard]] Object& at(std::size_t i) const noexcept {
    return objects()[i * 7 & (kObjects - 1)];
  }
  [[nodiscard]] std::size_t size_bytes() const noexcept { return memory_.size_bytes(); }

 private:
  Mapping memory_;
};

// Each loop is a function of its own that is not inlined, so that both sides of a pair are compiled
// alike but for the barrier.
[[gnu::noinline]] Object* same_place(Object* object) { return object; }

template <class Load>
[[gnu::noinline]] void chase(const Heap& heap, Load&& load) {
  Object* object = heap.objects();
  for (std::size_t i = 0; i < kOperations; ++i) {
    object = load(object->next);
    keep(object);
  }
}

template <class Load>
[[gnu::noinline]] void stream(const Heap& heap, Load&& load) {
  std::uintptr_t sum = 0;
  for (std::size_t i = 0; i < kOperations; ++i) {
    sum += reinterpret_cast<std::uintptr_t>(load(heap.at(i).next));
    keep(sum);
  }
}

template <class Barrier>
[[gnu::noinline]] void store(const Heap& heap, Barrier&& barrier) {
  Object* value = heap.objects();
  for (std::size_t i = 0; i < kOperations; ++i) {
    Object& object = heap.at(i);
    object.other = value;
    barrier(&object.other);
    keep(value);
  }
}

template <class Allocate>
[[gnu::noinline]] void allocate(twins::Nursery nursery, Allocate&& allocate_one) {
  for (std::size_t i = 0; i < kOperations; ++i) {
    // Both sides start over by themselves here: the check never fires, as in all but one of
    // thousands of allocations.
    if (i % (kObjects / 2) == 0) nursery.refill();
    auto* object = reinterpret_cast<Object*>(allocate_one(nursery));
    *object = {nullptr, nullptr, {i, i}};
    keep(object);
  }
}

/// Nanoseconds per operation that `first` takes longer than `second`, measured in turns.
template <class First, class Second>
std::vector<double> differences(int pairs, First&& first, Second&& second) {
  std::vector<double> found;
  first();
  second();
  for (int i = 0; i < pairs; ++i) {
    const bool swapped = i % 2 != 0;
    const double before = swapped ? time_ns(second) : time_ns(first);
    const double after = swapped ? time_ns(first) : time_ns(second);
    found.push_back((swapped ? after - before : before - after) / static_cast<double>(kOperations));
  }
  return found;
}

void append(std::vector<double>& all, const std::vector<double>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

/// Extra nanoseconds per operation of a loop with the barrier, and of a loop over itself.
class Samples {
 public:
  template <class With, class Without>
  void add(int pairs, With&& with, Without&& without) {
    append(costs_, differences(pairs, with, without));
    append(noise_, differences(pairs, without, without));
  }
  [[nodiscard]] Cost cost() const {
    Cost cost = cost_of(costs_);
    cost.noise_ns = percentile(noise_, 0.9);
    return cost;
  }

 private:
  std::vector<double> costs_;
  std::vector<double> noise_;
};

void measure_read_barrier(int pairs, Samples& chasing, Samples& streaming) {
  const Heap heap;
  // Read from memory in the loop, as a mutator must: the bounds change at each collection.
  static twins::ForbiddenRange from_space{16, 4096};
  const auto plain = [](Object* const& slot) { return slot; };
  const auto tested = [](Object* const& slot) {
    const twins::ForbiddenRange* space = &from_space;
    keep(space);
    return twins::load_reference(slot, *space, same_place);
  };
  chasing.add(
      pairs, [&] { chase(heap, tested); }, [&] { chase(heap, plain); });
  streaming.add(
      pairs, [&] { stream(heap, tested); }, [&] { stream(heap, plain); });
}

void measure_card_marks(int pairs, Samples& always, Samples& conditional) {
  const Heap heap;
  twins::CardTable cards(heap.objects(), heap.size_bytes());
  const auto unmarked = [&] { store(heap, [](Object**) {}); };
  always.add(
      pairs, [&] { store(heap, [&](Object** slot) { cards.mark(slot); }); }, unmarked);
  conditional.add(
      pairs, [&] { store(heap, [&](Object** slot) { cards.mark_if_clean(slot); }); }, unmarked);
}

void measure_limit_check(int pairs, Samples& samples) {
  Mapping memory(kNurseryBytes);
  populate(memory.data(), memory.size_bytes());
  const twins::Nursery nursery(memory.data(), memory.size_bytes());
  samples.add(
      pairs, [&] { allocate(nursery, [](twins::Nursery& n) { return n.allocate(kObjectBytes); }); },
      [&] {
        allocate(nursery, [](twins::Nursery& n) { return n.allocate_unchecked(kObjectBytes); });
      });
}

}  // namespace

Cost cost_of(const std::vector<double>& nanoseconds) {
  return {median(nanoseconds), percentile(nanoseconds, 0.1), percentile(nanoseconds, 0.9), 0};
}

TwinCosts measure_twins(const Effort& effort) {
  // In fresh memory several times: which frames a heap gets has been seen to double the cost of a
  // fraction of a nanosecond, and the range should say so.
  constexpr int kPlacements = 8;
  const int pairs = effort.quick ? 15 : 151;
  Samples chasing;
  Samples streaming;
  Samples card;
  Samples conditional;
  Samples limit;
  for (int placement = 0; placement < kPlacements; ++placement) {
    measure_read_barrier(pairs, chasing, streaming);
    measure_card_marks(pairs, card, conditional);
    measure_limit_check(pairs, limit);
  }
  return {chasing.cost(), streaming.cost(), card.cost(), conditional.cost(), limit.cost()};
}

}  // namespace pagetrap::bench
