// Save: one checkpoint being made, from the cut until all units are released and in the image.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <pagetrap/checkpoint/checkpointer.hpp>
#include <pagetrap/core/result.hpp>

#include "checkpoint/buffers.hpp"
#include "checkpoint/image/writer.hpp"
#include "checkpoint/territory.hpp"
#include "checkpoint/wishes.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

class Save {
 public:
  struct Part {
    Territory* territory = nullptr;
    std::size_t length = 0;  // bytes to save, from the front
    bool written_only = false;
  };
  using Lengths = std::function<std::size_t(std::size_t part)>;
  struct Settings {
    unsigned threads = 1;
    std::size_t extra_memory = 0;
    bool can_be_parent = false;  // of an increment, for which writes are noticed from the cut on
    // For the consistency test: its negative control does not wait for all cuts, and both dawdle
    // between one region's and the next.
    bool wait_for_all = true;
    unsigned dawdle_us = 0;
    Progress progress;
  };

  /// `writer` is borrowed.
  Save(std::vector<Part> parts, Settings settings, ImageWriter& writer);
  ~Save();
  /// Gives all memory back, if that was not done.
  void end() noexcept;
  Save(const Save&) = delete;
  Save& operator=(const Save&) = delete;

  /// Memory and threads for it, while the program still runs unhindered.
  Result<Done> prepare();
  /// Most of the work of the cut, ahead of it.
  void protect_ahead() noexcept;
  /// Takes the cut of all parts, and starts to copy and write. `length` says once more how much of
  /// each is to be saved. `frozen_us` is how long the cut took. On an error nothing is cut.
  Result<Done> cut(const Lengths& length, double& frozen_us);
  /// Waits until everything is written. All memory is given back, whatever happens on the way.
  Result<Done> finish(Statistics& statistics);
  /// In a fork()ed child: there are no workers here.
  void abandon_in_child() noexcept;

  // --- called by faulting threads
  /// Whether the cut is complete. `may_wait`: waits until it is, if it is being taken.
  [[nodiscard]] bool wait_for_cut(const Territory& territory, bool may_wait) noexcept
      PAGETRAP_SIGNAL_SAFE;
  void count_fault() noexcept PAGETRAP_SIGNAL_SAFE {
    faults_.fetch_add(1, std::memory_order_relaxed);
  }
  /// Brings a piece back in the calling thread. False: somebody else does, or it was refused.
  [[nodiscard]] bool bring_back(Territory& territory, std::size_t piece) noexcept
      PAGETRAP_SIGNAL_SAFE;
  /// Asks the workers to bring this piece back next.
  void want_piece(Territory& territory, std::size_t piece) noexcept PAGETRAP_SIGNAL_SAFE;
  /// Copies and closes `unit` in the calling thread, and what is pending around it, within `most`.
  /// Returns these. None: no buffer, or it is not pending.
  [[nodiscard]] UnitRun copy_in_fault(Territory& territory, std::size_t unit, UnitRun most) noexcept
      PAGETRAP_SIGNAL_SAFE;
  /// Asks the workers to take this unit next.
  void want(Territory& territory, std::size_t unit) noexcept PAGETRAP_SIGNAL_SAFE;

 private:
  enum class Phase : std::uint32_t {
    preparing,
    gathering,  // what is to be cut; threads that fault try again
    cutting,    // threads that fault wait
    saving,     // the workers run, and threads save what they touch
    over
  };
  void work(Buffer& buffer) noexcept;
  bool work_once(Buffer& buffer);
  bool serve_piece();
  bool next_piece();
  bool serve_wish(Buffer& buffer);
  void leave_out_unchanged(Buffer& buffer);
  void flush(Territory& territory, std::size_t first, std::size_t end, Buffer& buffer);
  bool next_stretch(Buffer& buffer);
  void save_units(Territory& territory, std::size_t first, std::size_t end, Buffer& buffer);
  Result<Done> copy_unit(Territory& territory, std::size_t unit, Buffer& buffer) noexcept
      PAGETRAP_SIGNAL_SAFE;
  void add(Buffer& buffer);
  void fail(const Error& error) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] bool failed() const noexcept PAGETRAP_SIGNAL_SAFE {
    return failed_.load(std::memory_order_acquire) == 2;
  }
  void closed(std::size_t units) noexcept PAGETRAP_SIGNAL_SAFE;
  void set_phase(Phase phase) noexcept;
  void undo(std::size_t begun) noexcept;
  Result<Done> give_back() noexcept;
  void join_workers() noexcept;
  void event() noexcept PAGETRAP_SIGNAL_SAFE;

  std::vector<Part> parts_;
  std::vector<std::size_t> order_;  // of the cuts
  bool is_cut_ = false;             // and memory has to be given back
  const Settings settings_;
  std::optional<BufferPool> pool_;         // for units saved by faulting threads
  std::optional<BufferPool> own_buffers_;  // one for each worker
  std::vector<std::thread> workers_;
  std::atomic<std::uint32_t> begun_{0};  // of them
  ImageWriter& writer_;
  std::mutex progress_lock_;

  std::atomic<std::uint32_t> phase_{static_cast<std::uint32_t>(Phase::preparing)};  // futex word
  std::atomic<std::uint32_t> events_{0};  // futex word: something for the workers
  std::atomic<std::size_t> left_{0};      // units and pieces
  std::atomic<std::size_t> cursor_{0};    // units of all parts, in order
  Wishes wishes_;
  Wishes piece_wishes_;
  std::atomic<std::uint64_t> faults_{0};
  std::atomic<std::uint64_t> waits_{0};
  std::atomic<std::uint64_t> pages_looked_at_{0};
  std::atomic<std::uint64_t> pages_copied_{0};
  std::atomic<std::uint64_t> pages_unchanged_{0};  // of those copied
  std::atomic<std::uint32_t> failed_{0};           // 0 no, 1 being written down, 2 yes
  Error error_;
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
