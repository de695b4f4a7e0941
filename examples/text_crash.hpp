// Kills an indexing process in the middle of a save.
#pragma once

#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "text_indexer.hpp"

namespace example {

struct CrashOptions {
  std::string directory;
  unsigned generations = 4;  // complete before the kill
  double patience = 60;      // seconds until there must be so many
};

struct Crash {
  bool in_the_middle = false;  // what was left is half an image
  Unfinished left;
  std::uint64_t complete = 0;  // generations before
  std::string problem;
};

/// `start` makes the process. It is killed as soon as there are enough generations and the next one
/// is being written; if it was too quick for us the proof is missing, and the next save is awaited
/// by a new process, in an empty directory.
inline Crash crash_in_the_middle(const CrashOptions& options, const std::function<pid_t()>& start) {
  using Clock = std::chrono::steady_clock;
  Crash crash;
  for (int attempt = 0; attempt < 5 && !crash.in_the_middle && crash.problem.empty(); ++attempt) {
    for (const auto& entry : std::filesystem::directory_iterator(options.directory))
      std::filesystem::remove(entry.path());
    const Records records(options.directory);
    const auto end = Clock::now() + std::chrono::duration<double>(options.patience);
    const pid_t child = start();
    if (child < 0) {
      crash.problem = "there is no process to be killed";
      return crash;
    }
    bool ended = false;
    for (;;) {
      ended = ::waitpid(child, nullptr, WNOHANG) != 0;
      if (ended || Clock::now() > end || records.ledger->failures.load() > 0) break;
      const std::uint64_t commits = records.ledger->commits.load();
      // An eighth of an image: not the first page, nor the last.
      if (commits >= options.generations && records.ledger->cuts.load() > commits &&
          unfinished_images(options.directory).bytes > records.ledger->records[0].image_bytes / 8)
        break;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    if (!ended) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
    crash.complete = records.ledger->commits.load();
    crash.left = unfinished_images(options.directory);
    // Whoever ends a save removes this file, or gives it another name: nobody has.
    crash.in_the_middle = !ended && crash.left.files == 1 && crash.left.bytes > 0 &&
                          records.ledger->cuts.load() == crash.complete + 1;
    if (ended) crash.problem = "the indexing process ended by itself";
    if (crash.complete < options.generations) crash.problem = "there were too few checkpoints";
    if (records.ledger->failures.load() > 0) crash.problem = records.ledger->problem.data();
  }
  if (crash.problem.empty() && !crash.in_the_middle)
    crash.problem = "no save was caught in the middle";
  return crash;
}

}  // namespace example
