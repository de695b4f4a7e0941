// CheckpointerState: what a Checkpointer owns.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <pagetrap/checkpoint/checkpointer.hpp>

#include "checkpoint/arena.hpp"
#include "checkpoint/lazy_load.hpp"
#include "checkpoint/save.hpp"
#include "checkpoint/territory.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

struct CheckpointerState {
  CheckpointerOptions options;
  Cut cut = Cut::automatic;  // of arenas
  CutPlan plan;              // of arenas

  std::mutex control;  // checkpoints, restores, additions
  std::vector<std::unique_ptr<Territory>> territories;
  std::vector<std::unique_ptr<Arena>> arenas;  // in the order of their making
  std::vector<ArenaState*> arena_of;           // by territory; null: an added region
  std::uintptr_t next_address = 0;
  Hooks hooks;
  std::unique_ptr<LazyLoad> lazy;
  bool wait_for_all = true;  // this and the next: Save::Settings
  unsigned dawdle_us = 0;
  bool always_lift = false;  // for tests: CutMethod::always_lift, and nothing protected ahead

  // The last image that was committed: the parent of the next.
  ImageId last{};
  std::vector<std::filesystem::path> last_files;  // its file, and its parents'
  std::uint64_t generation = 0;
  std::size_t parts_of_last = 0;  // regions in it
  std::atomic<Save*> running{nullptr};

  std::mutex series_lock;
  std::condition_variable series_changed;
  bool series_ends = false;
  std::thread series;

  static CheckpointerState& of(Checkpointer& checkpointer) noexcept { return *checkpointer.state_; }
  Result<Arena*> make_arena(const std::string& name, std::size_t capacity, std::uintptr_t at);
  Result<Done> add(const std::string& name, PageRange range);
  /// `at_cut` is called when the cut has been taken or has failed.
  Result<Statistics> save(Sink& sink, const SaveOptions& options,
                          const std::function<void()>& at_cut);
  Result<ImageInfo> restore(const std::string& path, RestoreMode mode);
  Result<ImageInfo> restore_file(const std::string& path, RestoreMode mode);
  void run_series(const PeriodicOptions& options);
  void end_lazy() noexcept;

 private:
  Result<Done> empty(Territory& territory);
  Result<Done> save_locked(Sink& sink, const SaveOptions& options, Statistics& statistics,
                           const std::function<void()>& at_cut);
  [[nodiscard]] bool can_follow(const std::filesystem::path& file) const;
  [[nodiscard]] std::size_t length_of(std::size_t part) const;
  [[nodiscard]] std::vector<Save::Part> parts(bool incremental) const;
  [[nodiscard]] std::vector<ImageRegion> image_regions() const;
};

/// While it is held, nobody fork()s: the lists of a Checkpointer are changing.
std::unique_lock<std::mutex> fork_waits();
/// Once there is a Region: its own handlers must come first in the child.
Result<Done> handle_fork();
/// All of the process, for fork().
void add_to_fork_list(CheckpointerState& state);
void remove_from_fork_list(CheckpointerState& state) noexcept;

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
