// Snapshots in other processes, of a store whose writer goes on and makes checkpoints all the time:
// what each shows must be what some number of steps leaves, and later ones must not show less.
// Writers and readers are killed at random instants.
#pragma once

#include <cstdint>
#include <string>

namespace campaign {

struct ReaderOptions {
  std::uint64_t seconds = 10;
  std::uint64_t seed = 1;
  unsigned readers = 3;
  bool kill_writers = true;
  bool kill_readers = true;
  /// The control: the writer does not know that there are readers, and keeps nothing for them.
  bool keep_nothing = false;
};
struct ReaderResult {
  std::uint64_t opened = 0;     // snapshots, and verified
  std::uint64_t refreshed = 0;  // and verified, with another commit
  std::uint64_t writers_killed = 0;
  std::uint64_t readers_killed = 0;
  std::uint64_t steps = 0;  // that were committed
  std::uint64_t checkpoints = 0;
  std::string wrong{};  // the first
  bool history_left = false;
};

ReaderResult read_while_written(const ReaderOptions& options);

}  // namespace campaign
