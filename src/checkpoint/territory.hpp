// Territory: one region under the regime of checkpoints: which of its units a save still has to
// copy, which were written since, and what a thread that touches one does.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <pagetrap/core/result.hpp>
#include <pagetrap/vm/region.hpp>

#include "checkpoint/cut_method.hpp"
#include "checkpoint/page_hashes.hpp"
#include "checkpoint/strides.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

class Save;
class LazyLoad;

/// Pages of a unit that is not open are protected, as far as they are there: see `.protected` in
/// docs/design/checkpoint.md.
enum class UnitState : std::uint8_t {
  open,     // threads may write, and may have
  armed,    // was open, and is protected ahead of a cut
  clean,    // as the last image has it
  pending,  // to be copied, by whoever needs it first
  claimed,  // being copied
};

/// Of what take() moved away.
enum class PieceState : std::uint8_t { back, away, claimed };

/// Units that lie side by side.
struct UnitRun {
  std::size_t first = 0;
  std::size_t count = 0;
};

class Territory {
 public:
  struct Shape {
    Cut cut = Cut::lift;  // how it was made to be cut: never automatic
    bool keeps_protected = false;
    std::size_t unit_bytes = 0;
  };
  static Result<std::unique_ptr<Territory>> create(std::string name, Region region, Shape shape);
  ~Territory();
  Territory(const Territory&) = delete;
  Territory& operator=(const Territory&) = delete;

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] Region& region() noexcept { return region_; }
  [[nodiscard]] Cut cut() const noexcept PAGETRAP_SIGNAL_SAFE { return shape_.cut; }
  [[nodiscard]] CutMethod& method() noexcept PAGETRAP_SIGNAL_SAFE { return *method_; }
  [[nodiscard]] bool protects() const noexcept PAGETRAP_SIGNAL_SAFE { return method_->protects(); }
  [[nodiscard]] bool tracks_writes() const noexcept {
    return protects() ? shape_.keeps_protected : region_.dirty_form() == DirtyForm::scan;
  }
  [[nodiscard]] std::size_t unit_bytes() const noexcept PAGETRAP_SIGNAL_SAFE {
    return shape_.unit_bytes;
  }
  /// Of the pages in the last image; where writes are tracked by protection.
  [[nodiscard]] PageHashes& hashes() noexcept { return hashes_; }
  /// No unit is as any image has it: memory has been replaced.
  void forget_images() noexcept;

  // --- a save
  /// Protects what is open of the first `length` bytes, a piece at a time, while threads go on, so
  /// that little is left for the cut: what they open again meanwhile. As long as that gets less.
  void protect_ahead(std::size_t length) noexcept;
  /// The first `length` bytes are to be saved, as region `index` of the image; of them only what
  /// was written since the last image, or all. Faults are `save`'s affair from now on.
  /// `keeps_protected`: what has been copied stays protected, for an increment to follow.
  Result<Done> begin_save(Save& save, std::uint32_t index, std::size_t length, bool written_only,
                          bool keeps_protected);
  /// The cut. On an error nothing is cut.
  Result<Done> take();
  /// Nobody has seen the cut: it is given up. Threads that wait for it wait still.
  void undo() noexcept;
  /// After a save that did not come to its cut: where nothing may stay protected, nothing does.
  void settle() noexcept;
  void end_save() noexcept;
  [[nodiscard]] bool taken() const noexcept PAGETRAP_SIGNAL_SAFE {
    return taken_.load(std::memory_order_acquire);
  }
  [[nodiscard]] std::uint32_t index() const noexcept PAGETRAP_SIGNAL_SAFE { return index_; }
  [[nodiscard]] PageRange extent() const noexcept PAGETRAP_SIGNAL_SAFE { return extent_; }
  [[nodiscard]] std::size_t units() const noexcept PAGETRAP_SIGNAL_SAFE { return units_; }
  [[nodiscard]] std::size_t pending_units() const noexcept { return pending_units_; }
  [[nodiscard]] std::size_t pending_bytes() const noexcept {
    return pending_units_ * shape_.unit_bytes;
  }
  [[nodiscard]] std::size_t pieces() const noexcept PAGETRAP_SIGNAL_SAFE { return pieces_; }
  /// Whether only pages that the kernel's tracking shows are to be copied of a unit.
  [[nodiscard]] bool asks_for_written() const noexcept PAGETRAP_SIGNAL_SAFE {
    return written_only_ && !protects();
  }
  [[nodiscard]] bool written_only() const noexcept { return written_only_; }
  /// Whether what has been copied stays protected.
  [[nodiscard]] bool keeps() const noexcept { return keeps_; }
  [[nodiscard]] PageRange unit_range(std::size_t first, std::size_t count) const noexcept
      PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] bool claim(std::size_t unit) noexcept PAGETRAP_SIGNAL_SAFE;
  void unclaim(std::size_t unit) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] UnitState state(std::size_t unit) const noexcept PAGETRAP_SIGNAL_SAFE {
    return states_[unit].load(std::memory_order_seq_cst);
  }
  /// Claimed units that have been copied: they stay protected if they are to be, else threads get
  /// them back. On an error they are claimed still.
  Result<Done> close(std::size_t first, std::size_t count) noexcept PAGETRAP_SIGNAL_SAFE;
  /// Whoever waits for anything looks again.
  void wake_all() noexcept PAGETRAP_SIGNAL_SAFE { wake(region_.range()); }

  /// The unit was copied though it had not changed.
  void cool(std::size_t unit) noexcept { heat_[unit].store(0, std::memory_order_relaxed); }
  [[nodiscard]] std::size_t unit_at(std::uint64_t page) const noexcept {
    return bytes(Pages{page}) / shape_.unit_bytes;
  }

  /// Whether the piece was away, and is back now by this call. An error: it is away still.
  Result<bool> bring_back(std::size_t piece) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] PieceState piece_state(std::size_t piece) const noexcept PAGETRAP_SIGNAL_SAFE {
    return piece_states_[piece].load(std::memory_order_seq_cst);
  }

  // --- a lazy restore
  void begin_lazy(LazyLoad& load) noexcept;
  void end_lazy() noexcept;

  /// In a fork()ed child: everything is given back, without a save.
  void abandon_in_child() noexcept;
  /// The release counter, to wait for.
  [[nodiscard]] std::atomic<std::uint32_t>& releases() noexcept PAGETRAP_SIGNAL_SAFE {
    return releases_;
  }
  /// Threads that wait for something of `range` look again.
  void wake(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;

 private:
  Territory(std::string name, Region region, const Shape& shape);
  static Verdict on_fault(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;
  Verdict before_the_cut(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;
  Verdict answer(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;
  Verdict during_save(Save& save, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;
  Verdict fetch(Save& save, std::size_t piece, bool in_thread) noexcept PAGETRAP_SIGNAL_SAFE;
  std::uint32_t say_that_we_wait() noexcept PAGETRAP_SIGNAL_SAFE;
  Verdict reopen(UnitRun run, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] UnitRun around(std::size_t unit, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] UnitRun protected_around(std::size_t unit, UnitState now,
                                         const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;
  Verdict resolved_by_copy(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;
  bool make_writable(UnitRun run) noexcept PAGETRAP_SIGNAL_SAFE;
  void set_open(std::size_t unit) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] Verdict serve(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] std::size_t unit_of(const std::byte* page) const noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] bool is_away(const std::byte* page, std::size_t& piece) const noexcept
      PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] PageRange piece_range(std::size_t piece) const noexcept PAGETRAP_SIGNAL_SAFE;
  void arm_ahead(std::size_t length) noexcept;
  std::size_t arm_units(std::size_t first, std::size_t end) noexcept;
  void disarm_units(std::size_t first, std::size_t end) noexcept;
  void warm(std::size_t unit) noexcept;
  [[nodiscard]] bool stays_protected(std::size_t unit) const noexcept PAGETRAP_SIGNAL_SAFE;
  std::size_t make_pending(std::size_t first, bool skips_clean);
  void set_states(std::size_t first, std::size_t count, UnitState state) noexcept
      PAGETRAP_SIGNAL_SAFE;
  void wake_waiters() noexcept PAGETRAP_SIGNAL_SAFE;

  const std::string name_;
  Region region_;
  const Shape shape_;
  const std::size_t unit_count_;  // of the whole region
  sys::Mapping state_memory_;     // committed as it is used: an arena may be reserved much larger
  std::atomic<UnitState>* states_ = nullptr;
  std::atomic<std::uint8_t>* heat_ = nullptr;  // increments in a row that found the unit open
  std::unique_ptr<std::atomic<PieceState>[]> piece_states_;
  std::unique_ptr<CutMethod> method_;
  PageHashes hashes_;
  Strides strides_;
  std::atomic<Save*> save_{nullptr};
  std::atomic<LazyLoad*> lazy_{nullptr};
  std::atomic<std::uint32_t> releases_{0};  // futex word: faulting threads wait for the next one
  std::atomic<bool> waiting_{false};        // somebody has said that he waits for one
  std::atomic<bool> taken_{false};
  std::atomic<bool> moving_{false};       // a piece is on its way back
  std::atomic<bool> unprotected_{false};  // one came back so
  std::size_t armed_units_ = 0;           // what protect_ahead() was last asked for
  std::uint32_t index_ = 0;
  bool written_only_ = false;
  bool keeps_ = false;
  PageRange extent_;
  std::size_t units_ = 0;  // of extent_
  std::size_t pending_units_ = 0;
  PageRange away_;          // what take() moved away
  std::size_t pieces_ = 0;  // of it
  std::vector<PageRange> open_runs_;
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
