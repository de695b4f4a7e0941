// Territory: one region under the regime of checkpoints: which of its units a save still has to
// copy, and what a thread that touches one does.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <pagetrap/core/result.hpp>
#include <pagetrap/vm/region.hpp>

#include "checkpoint/cut_method.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

class Save;
class LazyLoad;

enum class UnitState : std::uint8_t { released, pending, claimed };

class Territory {
 public:
  /// `cut` is how it was made to be cut: never automatic.
  static Result<std::unique_ptr<Territory>> create(std::string name, Region region, Cut cut,
                                                   std::size_t unit_bytes);
  ~Territory();
  Territory(const Territory&) = delete;
  Territory& operator=(const Territory&) = delete;

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] Region& region() noexcept { return region_; }
  [[nodiscard]] Cut cut() const noexcept { return cut_; }
  [[nodiscard]] CutMethod& method() noexcept PAGETRAP_SIGNAL_SAFE { return *method_; }
  [[nodiscard]] bool tracks_writes() const noexcept {
    return region_.dirty_form() == DirtyForm::scan;
  }
  [[nodiscard]] std::size_t unit_bytes() const noexcept PAGETRAP_SIGNAL_SAFE { return unit_bytes_; }

  // --- a save
  /// The first `length` bytes are to be saved, as region `index` of the image. Until all units are
  /// released again, faults are `save`'s affair.
  void begin_save(Save& save, std::uint32_t index, std::size_t length);
  void end_save() noexcept;
  [[nodiscard]] std::uint32_t index() const noexcept PAGETRAP_SIGNAL_SAFE { return index_; }
  [[nodiscard]] PageRange extent() const noexcept PAGETRAP_SIGNAL_SAFE { return extent_; }
  [[nodiscard]] std::size_t units() const noexcept PAGETRAP_SIGNAL_SAFE { return units_; }
  [[nodiscard]] PageRange unit_range(std::size_t first, std::size_t count) const noexcept
      PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] bool claim(std::size_t unit) noexcept PAGETRAP_SIGNAL_SAFE;
  void unclaim(std::size_t unit) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] UnitState state(std::size_t unit) const noexcept PAGETRAP_SIGNAL_SAFE {
    return states_[unit].load(std::memory_order_acquire);
  }
  void set_taken() noexcept { taken_.store(true, std::memory_order_release); }
  [[nodiscard]] bool taken() const noexcept PAGETRAP_SIGNAL_SAFE {
    return taken_.load(std::memory_order_acquire);
  }
  /// No fault has to wait any more, whatever was not released.
  void open_all() noexcept;
  /// Gives claimed units back to the threads, and wakes those that wait for them. On an error they
  /// are claimed still.
  Result<Done> release(std::size_t first, std::size_t count) noexcept PAGETRAP_SIGNAL_SAFE;

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
  Territory(std::string name, Region region, Cut cut, std::size_t unit_bytes);
  static Verdict on_fault(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;
  Verdict during_save(Save& save, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] Verdict open(const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE;

  const std::string name_;
  Region region_;
  const Cut cut_;
  const std::size_t unit_bytes_;
  const std::size_t unit_count_;  // of the whole region
  std::unique_ptr<std::atomic<UnitState>[]> states_;
  std::unique_ptr<CutMethod> method_;
  std::atomic<Save*> save_{nullptr};
  std::atomic<LazyLoad*> lazy_{nullptr};
  std::atomic<std::uint32_t> releases_{0};  // futex word: faulting threads wait for the next one
  std::atomic<bool> taken_{false};
  std::uint32_t index_ = 0;
  PageRange extent_;
  std::size_t units_ = 0;  // of extent_
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
