// Keeper: the program's large mappings, and the budget for them. Until their pages reach the budget
// they are ordinary memory; then all of it is adopted by a pager while the threads stand still.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include <pagetrap/compress/compressed_source.hpp>
#include <pagetrap/pager/pager.hpp>

#include "memory/settings.hpp"
#include "memory/territory.hpp"

namespace pagetrap::preload {

/// Set while a thread works for the shim: what it maps and allocates is the shim's own.
extern constinit thread_local bool own_work;

class OwnWork {
 public:
  OwnWork() noexcept : before_(own_work) { own_work = true; }
  ~OwnWork() { own_work = before_; }
  OwnWork(const OwnWork&) = delete;
  OwnWork& operator=(const OwnWork&) = delete;

 private:
  const bool before_;
};

struct CallRecord;  // buffers.hpp

class Keeper {
 public:
  /// Once, before the program's own constructors.
  void begin(const Settings& settings) noexcept;
  [[nodiscard]] const Settings& settings() const noexcept { return settings_; }

  Territory territory;

  [[nodiscard]] bool active() const noexcept { return active_.load(std::memory_order_acquire); }
  /// System calls into absent pages fail: whoever makes one must hold its buffers.
  [[nodiscard]] bool needs_holds() const noexcept {
    return by_signals_.load(std::memory_order_relaxed);
  }
  /// Something was taken from the territory.
  void mapped() noexcept;
  /// `range` of the territory reads as zeroes from now on. 0, or errno.
  int drop(PageRange range) noexcept;
  /// Rights other than to read and write: such pages stay in memory.
  int restrict_to(PageRange range, int prot) noexcept;
  /// Nothing of `range` is restricted any more.
  int lift_restrictions(PageRange range) noexcept;
  /// Holds what of it is in the territory in memory. Empty: it is not, or cannot be held; then its
  /// pages have been touched.
  pager::Pin hold(const void* address, std::size_t length) noexcept;

  /// The report signal came, or the program ends.
  void report(bool at_exit) noexcept;
  void ask_for_report() noexcept;
  [[nodiscard]] bool prepared() const noexcept { return prepared_.load(); }

 private:
  static void* watch(void* self) noexcept;
  void watch() noexcept;
  bool prepare() noexcept;
  bool activate() noexcept;
  static void adopt(void* self);
  void give_up(const Error& error) noexcept;
  [[nodiscard]] std::size_t resident_bytes() const noexcept;
  void register_forks() noexcept;
  void in_child() noexcept;

  Settings settings_;
  std::atomic<bool> on_{false};
  std::atomic<bool> active_{false};
  std::atomic<bool> by_signals_{true};  // until it is known better
  std::atomic<bool> watching_{false};
  std::atomic<bool> prepared_{false};
  std::atomic<std::uint32_t> bell_{0};
  std::atomic<bool> report_wanted_{false};
  int process_ = 0;

  // Borrow each other, and are never ended: faults may come after static destructors.
  pager::Pager* pager_ = nullptr;
  compress::CompressedSource* source_ = nullptr;
  compress::CompressedSource* first_source_ = nullptr;
  pager::Region* first_region_ = nullptr;  // brings the handler threads before others are held
  pager::Region* region_ = nullptr;
  Error adoption_{};

  struct Restricted {
    PageRange range;
    pager::Pin pin;
  };
  std::mutex restrictions_lock_;
  std::vector<Restricted>* restrictions_ = nullptr;  // GUARDED_BY(restrictions_lock_)
  friend void lock_for_fork() noexcept;
  friend void unlock_after_fork() noexcept;
  friend void unlock_in_child() noexcept;
};

extern constinit Keeper* keeper;  // null until begin()

}  // namespace pagetrap::preload
