#pragma once

#include <pagetrap/guard/bump.hpp>

namespace pagetrap {

extern "C" std::byte* allocate_by_guard(guard::BumpAllocator<guard::GuardPage>* allocator,
                                        std::uint16_t size_bytes);
extern "C" std::byte* allocate_by_comparison(
    guard::BumpAllocator<guard::CompareAndBranch>* allocator, std::uint16_t size_bytes);

}  // namespace pagetrap
