// What lies in front of the data, so that its address is the same in every process, and is made
// anew in each: the std::pmr::memory_resource of a store, and its TypedMemory.
#pragma once

#include <memory_resource>

#include "store/store_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

class Resource final : public std::pmr::memory_resource {
 public:
  explicit Resource(StoreState& state) noexcept : state_(&state) {}

 private:
  void* do_allocate(std::size_t size, std::size_t alignment) override {
    return state_->allocate(size, alignment);
  }
  void do_deallocate(void* block, std::size_t size, std::size_t alignment) override {
    state_->deallocate(block, size, alignment, false);
  }
  [[nodiscard]] bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }
  StoreState* state_;
};

struct OwnPage {
  explicit OwnPage(StoreState& state) noexcept : resource(state), typed(state) {}
  Resource resource;
  alignas(64) TypedMemory typed;
};
static_assert(sizeof(OwnPage) <= kPageBytes);

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
