// The software twin of a concurrent checkpoint: objects that are copied before the first write
// after a cut, by instructions.
//
// SOURCE  Appel & Li 1991, section 3, "Concurrent checkpointing", turned around: what they leave to
//         page traps a runtime without them does with an indirection per object and a comparison of
//         epochs per write. Databases do it this way (a version chain of length two).
//
// WHY no locks: this one serves one thread. A program with threads needs an atomic exchange per
// copy, and a rule for when the old version may go, so what is measured here is the least it costs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pagetrap::bench::twins {

/// `Object` is copied by assignment.
template <class Object>
class CowTable {
 public:
  struct Slot {
    Object* object = nullptr;  // as the program sees it
    Object* saved = nullptr;   // as of the last cut, if it was written since
    std::uint32_t epoch = 0;   // of the last write's copy
  };

  /// Borrows all three: `slots` point to the objects, and `spare` takes one object for each first
  /// write after a cut.
  CowTable(Slot* slots, Object* spare, std::size_t spare_count) noexcept
      : slots_(slots), spare_(spare), spare_end_(spare + spare_count) {}

  [[gnu::always_inline]] const Object& read(std::size_t index) const noexcept {
    return *slots_[index].object;
  }

  [[gnu::always_inline]] Object& write(std::size_t index) noexcept {
    Slot& slot = slots_[index];
    if (slot.epoch != epoch_) [[unlikely]]
      copy(slot);
    return *slot.object;
  }

  /// The cut: one increment.
  void cut() noexcept { ++epoch_; }

  [[nodiscard]] std::size_t spare_left() const noexcept {
    return static_cast<std::size_t>(spare_end_ - spare_);
  }

 private:
  [[gnu::noinline]] void copy(Slot& slot) noexcept {
    slot.epoch = epoch_;
    if (spare_ == spare_end_) return;
    *spare_ = *slot.object;
    slot.saved = slot.object;
    slot.object = spare_++;
  }

  Slot* slots_;
  Object* spare_;
  Object* spare_end_;
  std::uint32_t epoch_ = 0;
};

}  // namespace pagetrap::bench::twins
