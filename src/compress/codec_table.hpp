// CodecTable: the codecs of a store, current ones and those that still have pages.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include <pagetrap/compress/codec.hpp>
#include <pagetrap/compress/page_store.hpp>
#include <pagetrap/core/result.hpp>

#include "compress/lock.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

class CodecTable {
 public:
  static constexpr unsigned kSlots = 16;

  /// The current codec of a tier, held so that it does not end.
  class Use {
   public:
    Use(CodecTable& table, Tier tier) noexcept PAGETRAP_SIGNAL_SAFE : table_(table),
                                                                      slot_(table.hold(tier)) {}
    ~Use() PAGETRAP_SIGNAL_SAFE { table_.slots_[slot_].users.fetch_sub(1); }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    [[nodiscard]] unsigned slot() const noexcept PAGETRAP_SIGNAL_SAFE { return slot_; }

   private:
    CodecTable& table_;
    unsigned slot_;
  };

  /// Makes `codec` the current one. EAGAIN: all slots are current or have pages.
  Result<Done> install(std::unique_ptr<Codec> codec, Tier tier);

  /// Precondition: `slot` is in use by the caller, or has pages.
  [[nodiscard]] const Codec& codec(unsigned slot) const noexcept PAGETRAP_SIGNAL_SAFE {
    return *slots_[slot].codec;
  }
  /// Never the same for two codecs of this table.
  [[nodiscard]] std::uint64_t serial(unsigned slot) const noexcept PAGETRAP_SIGNAL_SAFE {
    return slots_[slot].serial;
  }
  void count_page(unsigned slot) noexcept PAGETRAP_SIGNAL_SAFE { slots_[slot].pages.fetch_add(1); }
  void forget_page(unsigned slot) noexcept PAGETRAP_SIGNAL_SAFE { slots_[slot].pages.fetch_sub(1); }

  /// The current one, for training: only the caller of install() may end it.
  [[nodiscard]] const Codec& current(Tier tier) const noexcept {
    return *slots_[current_[static_cast<unsigned>(tier)].load()].codec;
  }
  [[nodiscard]] std::size_t own_bytes() const noexcept PAGETRAP_SIGNAL_SAFE {
    return own_bytes_.load(std::memory_order_relaxed);
  }
  /// Of the most demanding codec there is.
  [[nodiscard]] std::size_t scratch_bytes() const noexcept PAGETRAP_SIGNAL_SAFE {
    return scratch_bytes_.load(std::memory_order_relaxed);
  }

 private:
  struct Slot {
    std::unique_ptr<Codec> codec;
    std::uint64_t serial = 0;
    std::atomic<std::uint64_t> pages{0};
    std::atomic<std::uint32_t> users{0};
  };

  // RACE install() ends the codec of a slot that a thread is about to hold: that thread counts
  // itself in before it looks whether the slot is still current, install() the other way round.
  unsigned hold(Tier tier) noexcept PAGETRAP_SIGNAL_SAFE {
    const std::atomic<unsigned>& current = current_[static_cast<unsigned>(tier)];
    for (;;) {
      const unsigned slot = current.load();
      slots_[slot].users.fetch_add(1);
      if (current.load() == slot) return slot;
      slots_[slot].users.fetch_sub(1);
    }
  }
  [[nodiscard]] bool is_current(unsigned slot) const noexcept {
    return slot == current_[0].load() || slot == current_[1].load();
  }

  static constexpr unsigned kNotYet = kSlots;  // the last slot never has a codec
  std::array<Slot, kSlots + 1> slots_;
  std::array<std::atomic<unsigned>, 2> current_{kNotYet, kNotYet};
  std::uint64_t last_serial_ = 0;
  std::atomic<std::size_t> own_bytes_{0};
  std::atomic<std::size_t> scratch_bytes_{0};
};

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
