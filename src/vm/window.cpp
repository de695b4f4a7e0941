#include <pagetrap/vm/window.hpp>

#include <utility>

#include "vm/keys.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {

Result<Window> Window::open(const Region& region) noexcept {
  RegionState* const state = RegionState::of(region);
  if (state == nullptr) return Error{"Window::open", EBADF, {}, "the Region is empty"};
  if (state->key < 0)
    return Error{
        "Window::open", ENOTSUP, state->range,
        "needs a region with a protection key: options.freezable or the pkey backend, on a "
        "CPU that has keys; for memory objects use map_twice()"};
  open_window(*state);
  return Window(state);
}

Window::Window(Window&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}

Window::~Window() {
  if (state_ != nullptr) close_window(*state_);
}

}  // namespace v0
}  // namespace pagetrap
