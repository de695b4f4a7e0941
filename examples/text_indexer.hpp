// A program that indexes in an arena and is checkpointed while it does; and the one that comes
// after it, restores the index, and proves it right.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <future>
#include <memory_resource>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <pagetrap/checkpoint/checkpoint.hpp>

#include "text_corpus.hpp"
#include "text_index.hpp"
#include "text_journal.hpp"

namespace example {

using pagetrap::checkpoint::Checkpointer;
using pagetrap::checkpoint::RestoreMode;
using pagetrap::checkpoint::Statistics;

struct IndexerOptions {
  std::string directory;
  std::chrono::milliseconds every{1000};
  std::size_t capacity = std::size_t{4} << 30;  // of the arena: addresses
  unsigned full_every = 4;
  double edits_per_second = 400;  // of each thread, once all documents are indexed; 0: no limit
};

inline constexpr const char* kArena = "index";
inline constexpr const char* kSeries = "index";

/// The next updates of one thread: each of its documents once, then edits of a few.
class Plan {
 public:
  Plan(std::size_t thread, std::size_t documents) : next_(thread), documents_(documents) {}
  /// `versions` of this thread's documents are right.
  Update next(const std::pmr::vector<std::uint32_t>& versions) {
    while (next_ < documents_ && versions[next_] != 0) next_ += kIndexers;
    if (next_ < documents_) return {static_cast<std::uint32_t>(next_), 1};
    // Documents that are edited lie together, as what is worked on does.
    const std::size_t hot = std::min<std::size_t>(kHot, documents_ / kIndexers);
    const std::size_t document = (edits_++ % hot) * kIndexers + next_ % kIndexers;
    return {static_cast<std::uint32_t>(document), versions[document] + 1};
  }
  [[nodiscard]] bool editing() const { return edits_ > 0; }

 private:
  static constexpr std::size_t kHot = 100;  // arbitrary
  std::size_t next_;
  std::size_t documents_;
  std::size_t edits_ = 0;
};

/// No system call reads or writes the index, so faults may be served in the threads that have them,
/// which is faster.
inline pagetrap::checkpoint::CheckpointerOptions saving_options(bool incremental = true) {
  return {.incremental = incremental, .kernel_accesses = false};
}

/// Writes the ledger: gates and cuts as the checkpointer takes them.
class Bookkeeper {
 public:
  Bookkeeper(TextIndex& index, IndexLocks& locks, Ledger& ledger,
             pagetrap::checkpoint::Arena& arena)
      : index_(index), locks_(locks), ledger_(ledger), arena_(arena) {}

  [[nodiscard]] pagetrap::checkpoint::Hooks hooks() {
    return {[this] {
              CutRecord& cut = record();
              cut = {};  // its page is there before anybody waits for it
              locks_.gate.close();
              closed_at_ = std::chrono::steady_clock::now();
              // After the cut this would fault.
              cut.applied = index_.applied;
              cut.heap_bytes = arena_.used_bytes();
            },
            [this] { after_cut(); },
            {}};
  }
  void done(const pagetrap::Result<Statistics>& saved) {
    if (saved) return commit(*saved);
    if (ledger_.failures.fetch_add(1) > 0) return;
    const std::string words = pagetrap::describe(saved.error());
    words.copy(ledger_.problem.data(), ledger_.problem.size() - 1);
  }

 private:
  CutRecord& record() { return ledger_.records[ledger_.commits.load() % Ledger::kMost]; }
  void after_cut() {
    record().gate_us =
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - closed_at_)
            .count();
    ledger_.cuts.store(ledger_.commits.load() + 1);
    locks_.gate.open();
  }
  void commit(const Statistics& saved) {
    CutRecord& cut = record();
    cut.generation = saved.generation;
    cut.incremental = saved.parent != pagetrap::checkpoint::ImageId{};
    cut.frozen_us = saved.frozen_us;
    cut.save_us = saved.save_us;
    cut.image_bytes = saved.bytes;
    cut.pages_written = saved.pages_written;
    cut.pages_skipped = saved.pages_skipped_parent;
    cut.faults = saved.faults;
    cut.extra_bytes = saved.peak_extra_bytes;
    ledger_.commits.fetch_add(1);
  }

  TextIndex& index_;
  IndexLocks& locks_;
  Ledger& ledger_;
  pagetrap::checkpoint::Arena& arena_;
  std::chrono::steady_clock::time_point closed_at_;
};

/// One thread of the program. Returns when `stop` is set.
inline void index_documents(TextIndex& index, IndexLocks& locks, const Corpus& corpus,
                            std::size_t thread, Journal& journal, const IndexerOptions& options,
                            const std::atomic<bool>& stop) {
  NoBarrier none;
  Updater<NoBarrier> updater(index, locks, corpus, none);
  Plan plan(thread, corpus.documents().size());
  auto due = std::chrono::steady_clock::now();
  while (!stop.load(std::memory_order_relaxed)) {
    const std::uint64_t number = index.applied[thread];
    if (number == Journal::kMost) return;
    const Update update = plan.next(index.versions);
    journal.updates[number] = update;
    updater.apply(thread, update);
    if (!plan.editing() || options.edits_per_second == 0) continue;
    due = std::max(due, std::chrono::steady_clock::now() - std::chrono::milliseconds(100)) +
          std::chrono::nanoseconds(static_cast<std::int64_t>(1e9 / options.edits_per_second));
    std::this_thread::sleep_until(due);
  }
}

/// Indexes and edits until `stop`, with a checkpoint every so often.
inline void index_until(const Corpus& corpus, const IndexerOptions& options,
                        const std::atomic<bool>& stop) {
  const Records records(options.directory);
  auto checkpointer = Checkpointer::create(saving_options()).value();
  auto& arena = *checkpointer.arena(kArena, options.capacity).value();
  auto& index =
      *arena.make<TextIndex>(arena.resource(), corpus.documents().size(), corpus.fingerprint());
  arena.set_root(&index);

  IndexLocks locks;
  Bookkeeper keeper(index, locks, *records.ledger, arena);
  checkpointer.set_hooks(keeper.hooks());
  pagetrap::checkpoint::PeriodicOptions series;
  series.directory = options.directory;
  series.name = kSeries;
  series.every = options.every;
  series.full_every = options.full_every;
  series.done = [&](const auto& saved) { keeper.done(saved); };
  checkpointer.start_periodic(series).value();
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < kIndexers; ++i)
      threads.emplace_back([&, i] {
        index_documents(index, locks, corpus, i, *records.journals[i], options, stop);
      });
  }
  checkpointer.stop_periodic();
}

/// Files in `directory` that a save has begun and not finished, and their bytes.
struct Unfinished {
  std::size_t files = 0;
  std::uint64_t bytes = 0;
};
inline Unfinished unfinished_images(const std::string& directory) {
  Unfinished found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().extension() != ".tmp") continue;
    std::error_code gone;
    const auto size = entry->file_size(gone);
    if (gone) continue;
    ++found.files;
    found.bytes += size;
  }
  return found;
}

/// What verify_restored() found. Trivially copyable: it may cross to another process as bytes.
struct Findings {
  std::uint64_t generation = 0;
  std::array<std::uint64_t, kIndexers> applied{};
  std::uint64_t journal_beyond = 0;  // updates that were begun after the cut, and are not in it
  double first_answer_ms = 0;        // until a word could be looked up
  double all_there_ms = 0;
  double replay_ms = 0;
  Comparison comparison;
  bool is_last_cut = false;      // the counters are those of the last complete image's cut
  bool control_differs = false;  // with one update more in one of the two, they do differ
  bool goes_on = false;          // some updates later, and after another checkpoint, still the same
  [[nodiscard]] bool right() const {
    return is_last_cut && comparison.differences == 0 && comparison.words > 0 && control_differs &&
           goes_on;
  }
};

namespace detail {

/// The index that the journals describe, made from nothing in ordinary memory.
inline void replay(TextIndex& index, const Corpus& corpus, const Records& records,
                   const std::array<std::uint64_t, kIndexers>& applied) {
  IndexLocks locks;
  NoBarrier none;
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < kIndexers; ++i)
    threads.emplace_back([&, i] {
      Updater<NoBarrier> updater(index, locks, corpus, none);
      for (std::uint64_t n = 0; n < applied[i]; ++n)
        updater.apply(i, records.journals[i]->updates[n]);
    });
}

inline bool save_once(Checkpointer& checkpointer, const std::string& directory) {
  std::promise<bool> saved;
  std::atomic<bool> told = false;
  pagetrap::checkpoint::PeriodicOptions series;
  series.directory = directory;
  series.name = kSeries;
  series.every = std::chrono::milliseconds(1);
  series.done = [&](const auto& result) {
    if (!told.exchange(true)) saved.set_value(static_cast<bool>(result));
  };
  checkpointer.start_periodic(series).value();
  const bool good = saved.get_future().get();
  checkpointer.stop_periodic();
  return good;
}

/// Updates both, first one of them only, and compares.
inline void go_on(TextIndex& restored, TextIndex& expected, const Corpus& corpus,
                  Findings& findings) {
  constexpr int kMore = 100;
  IndexLocks locks;
  NoBarrier none;
  Updater<NoBarrier> there(restored, locks, corpus, none);
  Updater<NoBarrier> here(expected, locks, corpus, none);
  Plan plan(0, corpus.documents().size());
  for (int i = 0; i < kMore; ++i) {
    const Update update = plan.next(restored.versions);
    there.apply(0, update);
    if (i == 0) {
      // The negative control: this comparison is able to fail.
      findings.control_differs = compare(restored, expected).differences > 0;
    }
    here.apply(0, update);
  }
  findings.goes_on = compare(restored, expected).differences == 0;
}

}  // namespace detail

/// In a fresh process: restores the newest image in `directory` and compares the index with what
/// the journals say, up to the updates that the image itself claims to hold. Throws what cannot be
/// restored at all. With `save_again` there is one more checkpoint at the end.
inline Findings verify_restored(const Corpus& corpus, const std::string& directory,
                                RestoreMode mode, bool save_again) {
  using Clock = std::chrono::steady_clock;
  const auto since_ms = [](Clock::time_point begin) {
    return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
  };
  Findings findings;
  auto checkpointer = Checkpointer::create(saving_options()).value();
  const auto begin = Clock::now();
  findings.generation = checkpointer.restore(directory, mode).value().generation;
  auto& index = *checkpointer.find_arena(kArena)->root<TextIndex>();
  static_cast<void>(occurrences(index, "the"));
  findings.first_answer_ms = since_ms(begin);
  checkpointer.finish_restore().value();
  findings.all_there_ms = since_ms(begin);
  if (index.corpus != corpus.fingerprint())
    throw std::runtime_error("the files that were indexed have changed since");

  const Records records(directory);
  findings.applied = index.applied;
  for (std::size_t i = 0; i < kIndexers; ++i) {
    for (std::uint64_t n = index.applied[i]; n < Journal::kMost; ++n) {
      if (records.journals[i]->updates[n].version == 0) break;
      ++findings.journal_beyond;
    }
  }
  // The last image that is known to be complete, or one that became so just before the end, when
  // nobody was left to write it down.
  const std::uint64_t commits = records.ledger->commits.load();
  for (const std::uint64_t cut : {commits, commits + 1}) {
    if (cut == 0 || cut > records.ledger->cuts.load()) continue;
    if (records.ledger->records[cut - 1].applied == index.applied) findings.is_last_cut = true;
  }
  const auto replaying = Clock::now();
  TextIndex expected(std::pmr::new_delete_resource(), corpus.documents().size(),
                     corpus.fingerprint());
  detail::replay(expected, corpus, records, index.applied);
  findings.replay_ms = since_ms(replaying);
  findings.comparison = compare(index, expected);
  detail::go_on(index, expected, corpus, findings);
  if (save_again) {
    const bool saved = detail::save_once(checkpointer, directory);
    findings.goes_on = findings.goes_on && saved && compare(index, expected).differences == 0;
  }
  return findings;
}

}  // namespace example
