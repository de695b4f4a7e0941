// Region::touch: an access in user mode, or the simulation of one on the null backend.
#include <atomic>

#include "vm/dispatch.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

bool access_allowed(PageState state, bool write) noexcept PAGETRAP_SIGNAL_SAFE {
  return state == PageState::read_write || (state == PageState::read && !write);
}

// What the kernel does between an access and its success: fault, ask the handler, run again.
bool simulate(RegionState& state, std::byte* address, bool write) noexcept PAGETRAP_SIGNAL_SAFE {
  while (!access_allowed(state.pages.get(address), write)) {
    const Pinned pinned = Pinned::find(address);
    if (pinned.get() == nullptr) return false;
    Fault fault;
    fault.address = address;
    fault.page = page_of(address);
    fault.write = write;
    fault.kind = classify(state, address, write, true);
    fault.thread = current_thread();
    if (deliver(state, fault) == Verdict::not_mine) return false;
  }
  return true;
}

}  // namespace

bool Region::touch(const void* address, bool write) noexcept PAGETRAP_SIGNAL_SAFE {
  if (state_ == nullptr || state_->absent_in_child || !state_->range.contains(address))
    return false;
  auto* const byte = static_cast<std::uint8_t*>(const_cast<void*>(address));
  if (state_->operations.id == BackendId::null &&
      !simulate(*state_, reinterpret_cast<std::byte*>(byte), write))
    return false;
  const std::atomic_ref<std::uint8_t> cell(*byte);
  if (write) {
    // A store of the same value, atomic. Clang makes a plain load of it if it sees the 0.
    std::uint8_t nothing = 0;
    asm volatile("" : "+r"(nothing));
    cell.fetch_or(nothing, std::memory_order_relaxed);
  } else {
    static_cast<void>(cell.load(std::memory_order_relaxed));
  }
  return true;
}

}  // namespace v0
}  // namespace pagetrap
