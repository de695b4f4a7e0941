// The index at work: one thread makes versions, others ask, and the collector runs beside them.
#pragma once

#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <random>
#include <thread>
#include <vector>

#include "durations.hpp"
#include "live_index.hpp"

namespace example {

struct LiveOptions {
  unsigned readers = 1;
  gc::Options heap;
};

struct LiveFigures {
  IndexComparison index;
  std::uint64_t nodes = 0;
  std::uint64_t documents = 0;
  double seconds = 0;
  Durations queries;
  Durations undisturbed;    // of those, while the kernel gave the processor to nobody else
  std::uint64_t wrong = 0;  // answers
  Durations pauses;         // flips, from the order to stop on
  Durations standstills;    // of those, from when all threads had stopped
  gc::Statistics heap;
  gc::PageSupply supply{};

  [[nodiscard]] bool right() const {
    return wrong == 0 && index.differences == 0 && nodes == index.words && queries.count() != 0;
  }
};

/// Asks for two words of a document that is in the index: the answer must name it.
class Reader {
 public:
  Reader(const LiveIndex& index, const Corpus& corpus, unsigned seed)
      : index_(index), corpus_(corpus), random_(seed) {}

  void ask_once() {
    const Version* const version = index_.latest();
    if (version->documents == 0) return std::this_thread::yield();
    const auto document = static_cast<std::uint32_t>(random_() % version->documents);
    words_.clear();
    for_each_word(corpus_.documents()[document],
                  [&](std::string_view word, std::uint32_t) { words_.push_back(word); });
    if (words_.empty()) return;
    const std::string_view a = words_[random_() % words_.size()];
    const std::string_view b = words_[random_() % words_.size()];
    const long preempted = times_preempted();
    const auto begin = std::chrono::steady_clock::now();
    const Answer answer = ask(*version, a, b, document);
    const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - begin;
    queries.add(taken.count());
    if (times_preempted() == preempted) undisturbed.add(taken.count());
    if (!answer.has(document)) ++wrong;
  }

  Durations queries;
  Durations undisturbed;
  std::uint64_t wrong = 0;

 private:
  static long times_preempted() {
    rusage usage{};
    ::getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nivcsw;
  }

  const LiveIndex& index_;
  const Corpus& corpus_;
  std::mt19937 random_;
  std::vector<std::string_view> words_;
};

/// Indexes all of `corpus`, and compares.
inline LiveFigures run_live(const Corpus& corpus, LiveOptions options) {
  LiveFigures figures;
  options.heap.on_cycle_self = &figures;
  options.heap.on_cycle = [](void* self, const gc::Cycle& cycle) {
    auto& told = *static_cast<LiveFigures*>(self);
    told.pauses.add((cycle.stop_us + cycle.pause_us) * 1000);
    told.standstills.add(cycle.pause_us * 1000);
  };
  gc::Heap heap(options.heap);
  gc::Mutator here(heap);
  LiveIndex index(heap);
  figures.supply = heap.supply();

  std::atomic<bool> stop{false};
  std::vector<Reader> readers;
  for (unsigned i = 0; i < options.readers; ++i) readers.emplace_back(index, corpus, i);
  std::vector<std::exception_ptr> failures(options.readers);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < options.readers; ++i)
    threads.emplace_back([&, i] {
      try {
        const gc::Mutator attached(heap);
        while (!stop.load(std::memory_order_relaxed)) readers[i].ask_once();
      } catch (...) {
        failures[i] = std::current_exception();
      }
    });
  const auto join = [&] {
    stop = true;
    here.blocking([&] {
      for (std::thread& thread : threads) thread.join();
    });
  };

  const auto begin = std::chrono::steady_clock::now();
  try {
    for (const std::string_view document : corpus.documents()) index.add(document);
  } catch (...) {
    join();
    throw;
  }
  figures.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  join();
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
  for (const Reader& reader : readers) {
    figures.queries.add(reader.queries);
    figures.undisturbed.add(reader.undisturbed);
    figures.wrong += reader.wrong;
  }
  heap.collect();
  const Version* const last = index.latest();
  figures.documents = last->documents;
  figures.index = compare(*last, corpus);
  figures.nodes = count_words(last->words);
  figures.heap = heap.statistics();
  return figures;
}

}  // namespace example
