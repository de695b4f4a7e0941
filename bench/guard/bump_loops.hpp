// Four loops that allocate, the same for both forms of the limit check.
#pragma once

#include <array>
#include <cstddef>

#include <pagetrap/guard/bump.hpp>

namespace pagetrap::bench {

template <class Limit>
using Bump = guard::BumpAllocator<Limit>;

/// One of them: makes at least `count` objects, and says how many.
template <class Limit>
using BumpLoop = std::size_t (*)(Bump<Limit>& allocator, std::size_t count);

struct BumpLoopFacts {
  const char* name;       // for people: what, and where the cursor is
  const char* parameter;  // for machines
  double object_bytes;    // on average
};

inline constexpr std::array<BumpLoopFacts, 4> kBumpLoops{{
    {"32 B, register", "register_32", 32},
    {"16-40 B, register", "register_mixed", 28},
    {"32 B, thread-local", "thread_local_32", 32},
    {"tree, thread-local", "thread_local_tree", 24},
}};

/// The `index`-th of kBumpLoops. Defined for guard::GuardPage and guard::CompareAndBranch.
template <class Limit>
BumpLoop<Limit> bump_loop(std::size_t index);

/// Refills a nursery with itself: everything in it is dead.
std::byte* same_nursery(void* self, guard::NurseryPool& pool,
                        const guard::FullNursery& full) noexcept;

}  // namespace pagetrap::bench
