// The program that is killed, and what it has told by then.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

namespace crash {

/// A mapped file: it is there after a SIGKILL. Beside the checkpoints' directory.
struct Ledger {
  static constexpr std::uint64_t kMost = 1 << 16;
  // Over all runs. Image n has the state after counter_of[n] steps; committed is the newest that
  // the program knows of. The one after it has the state after counter_of[committed + 1] steps, if
  // it was killed before it learned that it was complete.
  std::array<std::atomic<std::uint64_t>, kMost> counter_of;
  std::atomic<std::uint64_t> committed;
  std::atomic<std::uint64_t> keep;  // of the last run
  // Of one run, cleared before it.
  std::atomic<std::uint64_t> restored;  // generation; 0: there was none
  std::atomic<bool> ready;              // restored and checked
  std::atomic<std::uint64_t> commits;
  std::array<char, 400> problem;
};

/// Owns the mapping. Throws std::system_error.
Ledger* map_ledger(const std::string& path);

struct ChildOptions {
  std::string directory;
  std::string ledger;
  std::uint64_t seed = 1;   // of the contents
  std::uint64_t round = 0;  // with the seed: compression, cut, sizes of the series
  std::uint64_t megabytes = 6;
};

/// Restores what is there, checks it, and saves generation after generation, until it is killed.
/// Returns only when something is wrong, after writing it to the ledger.
int be_child(const ChildOptions& options);

/// A save on a disk that is too small. 0 right, 1 wrong, 77 not possible here.
int fill_disk(std::uint64_t seed);

}  // namespace crash
