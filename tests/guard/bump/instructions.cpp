// Functions whose machine code instructions_test.cpp reads.
#include "guard/bump/instructions.hpp"

namespace pagetrap {

std::byte* allocate_by_guard(guard::BumpAllocator<guard::GuardPage>* allocator,
                             std::uint16_t size_bytes) {
  return allocator->allocate(size_bytes, 7);
}

std::byte* allocate_by_comparison(guard::BumpAllocator<guard::CompareAndBranch>* allocator,
                                  std::uint16_t size_bytes) {
  return allocator->allocate(size_bytes, 7);
}

}  // namespace pagetrap
