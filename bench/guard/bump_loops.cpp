#include "guard/bump_loops.hpp"

#include <cstdint>
#include <random>

namespace pagetrap::bench {

namespace {

constexpr int kTreeDepth = 12;
constexpr std::size_t kSizes = 4096;

struct Cons {
  std::uint64_t length;
  Cons* next;
  std::uint64_t value;
  std::uint64_t index;
};
struct Leaf {
  Leaf* left;
  std::uint64_t depth;
  Leaf* right;
};

/// The object is used, and what is in memory may be looked at: the same for both forms.
template <class T>
[[gnu::always_inline]] inline void keep(T& value) {
  asm volatile("" : "+r"(value) : : "memory");
}

const std::array<std::uint16_t, kSizes>& sizes() {
  static const auto made = [] {
    std::array<std::uint16_t, kSizes> all{};
    std::mt19937 random(9);
    for (auto& size : all) size = static_cast<std::uint16_t>(16 + random() % 4 * 8);
    return all;
  }();
  return made;
}

template <class Allocator>
[[gnu::always_inline]] inline Cons* make_cons(Allocator& allocator, Cons* next, std::uint64_t i) {
  auto* cons = reinterpret_cast<Cons*>(allocator.allocate(sizeof(Cons), i));
  keep(cons);
  cons->length = sizeof(Cons);
  cons->next = next;
  cons->value = i * 7;
  return cons;
}

template <class Limit>
[[gnu::noinline]] std::size_t in_register(Bump<Limit>& allocator, std::size_t count) {
  Bump<Limit> mine = allocator;
  Cons* list = nullptr;
  for (std::size_t i = 0; i < count; ++i) list = make_cons(mine, list, i);
  allocator = mine;
  return count;
}

template <class Limit>
[[gnu::noinline]] std::size_t in_register_mixed(Bump<Limit>& allocator, std::size_t count) {
  const auto& wanted = sizes();
  Bump<Limit> mine = allocator;
  std::uint64_t* last = nullptr;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint16_t size = wanted[i % kSizes];
    auto* object = reinterpret_cast<std::uint64_t*>(mine.allocate(size, i));
    keep(object);
    object[0] = reinterpret_cast<std::uintptr_t>(last);
    last = object;
  }
  allocator = mine;
  return count;
}

template <class Limit>
constinit thread_local Bump<Limit> t_allocator{};

template <class Limit>
[[gnu::noinline]] std::size_t in_thread_local(Bump<Limit>& allocator, std::size_t count) {
  t_allocator<Limit> = allocator;
  Cons* list = nullptr;
  for (std::size_t i = 0; i < count; ++i) list = make_cons(t_allocator<Limit>, list, i);
  allocator = t_allocator<Limit>;
  return count;
}

template <class Limit>
[[gnu::noinline]] Leaf* tree(int depth) {
  if (depth == 0) return nullptr;
  Leaf* const left = tree<Limit>(depth - 1);
  Leaf* const right = tree<Limit>(depth - 1);
  auto* leaf = reinterpret_cast<Leaf*>(
      t_allocator<Limit>.allocate(sizeof(Leaf), reinterpret_cast<std::uintptr_t>(right)));
  keep(leaf);
  leaf->left = left;
  leaf->depth = static_cast<std::uint64_t>(depth);
  return leaf;
}

template <class Limit>
[[gnu::noinline]] std::size_t trees(Bump<Limit>& allocator, std::size_t count) {
  constexpr std::size_t kNodes = (std::size_t{1} << kTreeDepth) - 1;
  t_allocator<Limit> = allocator;
  std::size_t made = 0;
  for (; made < count; made += kNodes) tree<Limit>(kTreeDepth);
  allocator = t_allocator<Limit>;
  return made;
}

}  // namespace

template <class Limit>
BumpLoop<Limit> bump_loop(std::size_t index) {
  constexpr std::array<BumpLoop<Limit>, kBumpLoops.size()> kLoops{
      in_register<Limit>, in_register_mixed<Limit>, in_thread_local<Limit>, trees<Limit>};
  return kLoops[index];
}

template BumpLoop<guard::GuardPage> bump_loop<guard::GuardPage>(std::size_t);
template BumpLoop<guard::CompareAndBranch> bump_loop<guard::CompareAndBranch>(std::size_t);

std::byte* same_nursery(void*, guard::NurseryPool& pool, const guard::FullNursery& full) noexcept {
  return full.base != nullptr ? full.base : pool.take();
}

}  // namespace pagetrap::bench
