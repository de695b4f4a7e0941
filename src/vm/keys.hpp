// Protection keys of regions: the region says what it allows (key_access), threads hold rights in a
// register of their own. Taking away reaches every thread at once, by broadcast; giving back is
// lazy: a thread that still lacks the right faults once and is given it here.
#pragma once

#include "sys/switches.hpp"
#include "sys/thread_state.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {

/// Allocate a key, tag the region's memory with it.
Outcome attach_key(RegionState& state);
void detach_key(RegionState& state) noexcept;

/// Allow every thread no more than `access`. Signal-safe only where the process has one thread, or
/// else refused with EDEADLK inside a fault handler.
Outcome restrict_key(RegionState& state, Access access) noexcept PAGETRAP_SIGNAL_SAFE;
/// Allow everything again. Signal-safe.
Outcome open_key(RegionState& state) noexcept PAGETRAP_SIGNAL_SAFE;

/// A key fault in this thread: give the right if the region allows it by now, else call the
/// handler. False: not ours.
bool resolve_key_fault(RegionState& state, Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;

/// Make the interrupted code's rights to the region's key what the region allows.
void apply_key_access(const RegionState& state, void* context) noexcept PAGETRAP_SIGNAL_SAFE;

/// Before a handler of somebody else is called: rights to regions' keys as the regions allow. It
/// may touch what is open, and if it leaves by siglongjmp the thread goes on with these. (The
/// kernel denies all keys in a handler, and ours have all open.) Windows are closed in it.
void keys_as_allowed() noexcept PAGETRAP_SIGNAL_SAFE;

/// Sleep until the region is thawed.
void wait_for_thaw(RegionState& state) noexcept PAGETRAP_SIGNAL_SAFE;

/// The kernel starts every signal handler with all keys but 0 denied. While one of these lives, the
/// handler has the rights to all keys of regions. Nothing where there are none.
class KeysOpenInHandler {
 public:
  KeysOpenInHandler() noexcept PAGETRAP_SIGNAL_SAFE {
    const std::uint32_t bits = sys::switches.region_key_bits.load(std::memory_order_relaxed);
    if (bits != 0) [[unlikely]]
      open(bits);
  }
  ~KeysOpenInHandler() PAGETRAP_SIGNAL_SAFE {
    if (opened_) [[unlikely]]
      --sys::this_thread().handlers_with_keys;
  }
  KeysOpenInHandler(const KeysOpenInHandler&) = delete;
  KeysOpenInHandler& operator=(const KeysOpenInHandler&) = delete;

 private:
  void open(std::uint32_t bits) noexcept PAGETRAP_SIGNAL_SAFE;
  bool opened_ = false;
};

/// For window.cpp: this thread has (or no longer has) a window to the region.
void open_window(const RegionState& state) noexcept;
void close_window(const RegionState& state) noexcept;

}  // namespace v0
}  // namespace pagetrap
