// A program that indexes text into a store is killed at a random instant of a commit, again and
// again, and each time what it leaves is proved.
#pragma once

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>

#include "text_corpus.hpp"
#include "word_store.hpp"
#include "word_store_proof.hpp"

namespace example {

struct Kill {
  bool ended = false;              // before we came to it: there is no more text
  bool in_commit = false;          // it came when the body had ended, the commit not
  std::uint32_t acknowledged = 0;  // documents whose commit had returned
  std::uint64_t from_log = 0;      // commits that recovery took from the log
  double open_ms = 0;              // until the first word could be looked up
  Proof found;

  /// With what was acknowledged there is at most the transaction that was on its way.
  [[nodiscard]] bool right() const {
    return found.right() && found.documents >= acknowledged &&
           found.documents <= std::uint64_t{acknowledged} + kTogether;
  }
};

/// A Witness that parent and child share.
class SharedWitness {
 public:
  SharedWitness()
      : memory_(::mmap(nullptr, sizeof(Witness), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                       -1, 0)) {
    if (memory_ == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
    new (memory_) Witness;
  }
  ~SharedWitness() { ::munmap(memory_, sizeof(Witness)); }
  SharedWitness(const SharedWitness&) = delete;
  SharedWitness& operator=(const SharedWitness&) = delete;
  Witness& operator*() const { return *static_cast<Witness*>(memory_); }
  Witness* operator->() const { return static_cast<Witness*>(memory_); }

 private:
  void* memory_;
};

inline pid_t start_indexing(const std::string& path, const Corpus& corpus,
                            const pagetrap::store::StoreOptions& options, Witness& witness) {
  const pid_t child = ::fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (child != 0) return child;
  try {
    auto store = pagetrap::store::Store::open(path, options).value();
    WordIndex& index = open_index(store, corpus);
    witness.acknowledged = index.documents();
    index_all(store, index, corpus, &witness);
    ::_exit(store.close() ? 0 : 1);
  } catch (const std::exception&) {
    ::_exit(1);
  }
}

/// Waits until `documents` are acknowledged and a commit has begun, then for a random part of it.
/// False if the process ended before.
inline bool await_commit(pid_t child, const Witness& witness, std::uint32_t documents,
                         std::mt19937& random) {
  using Clock = std::chrono::steady_clock;
  const auto begun = [&] { return witness.acknowledged >= documents && witness.committing; };
  for (;;) {
    // Most of a commit is over before a thread that gives way comes back.
    constexpr int kLooks = 1000;
    for (int i = 0; i < kLooks && !begun(); ++i) {
    }
    if (begun()) break;
    int status = 0;
    if (::waitpid(child, &status, WNOHANG) == 0) {
      ::sched_yield();
      continue;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
      throw std::runtime_error("the indexing process died by itself");
    return false;
  }
  // Rather early than late: most of a commit is the flush, and before it there is more to lose.
  const double share = std::pow(std::uniform_real_distribution<double>(0, 1)(random), 3);
  const std::chrono::duration<double, std::micro> part(
      share * static_cast<double>(witness.commit_us.load()));
  for (const auto until = Clock::now() + part; Clock::now() < until;) {
  }
  return true;
}

inline void open_and_prove(const std::string& path, const Corpus& corpus,
                           const pagetrap::store::StoreOptions& options, Kill& kill) {
  const auto begin = std::chrono::steady_clock::now();
  const auto store = pagetrap::store::Store::open(path, options).value();
  const WordIndex* const index = store.find<WordIndex>("words").value();
  if (index == nullptr) throw std::runtime_error("an acknowledged index is not there");
  static_cast<void>(index->documents_of.find("the"));
  kill.open_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  kill.from_log = store.statistics().recovered_commits;
  kill.found = prove(*index, corpus);
}

/// A process goes on with the index at `path`, for `more` documents at least, and is killed.
inline Kill kill_and_prove(const std::string& path, const Corpus& corpus, std::uint32_t more,
                           std::mt19937& random,
                           const pagetrap::store::StoreOptions& options = {}) {
  Kill kill;
  std::uint32_t before = 0;
  if (auto store = pagetrap::store::Store::open(path, options).value(); true)
    before = open_index(store, corpus).documents();
  const SharedWitness witness;
  const pid_t child = start_indexing(path, corpus, options, *witness);
  kill.ended = !await_commit(child, *witness, before + more, random);
  if (!kill.ended) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    kill.in_commit = witness->committing;
  }
  kill.acknowledged = witness->acknowledged;
  open_and_prove(path, corpus, options, kill);
  return kill;
}

}  // namespace example
