// A program that indexes text into a store is killed in the middle of it, and what it leaves is
// compared with what must be there.
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>

#include "text_corpus.hpp"
#include "word_store.hpp"

namespace example {

struct CrashFacts {
  std::uint32_t acknowledged = 0;  // documents whose commit had returned when it was killed
  std::uint32_t found = 0;         // documents in the store that was opened again
  std::uint64_t from_log = 0;      // commits that recovery took from the log
  double open_ms = 0;              // until the first word could be looked up
  std::size_t words = 0;
  std::size_t differences = 0;  // words that differ from an index of as many documents
};

/// Documents of `corpus` from `index.documents` on; one transaction for each.
inline void index_documents(pagetrap::store::Store& store, WordIndex& index, const Corpus& corpus,
                            std::atomic<std::uint32_t>* acknowledged = nullptr) {
  const auto& documents = corpus.documents();
  while (index.documents < documents.size()) {
    store.transaction([&] { index.add(documents[index.documents]); }).value();
    if (acknowledged != nullptr) acknowledged->store(index.documents);
  }
}

inline WordIndex& open_index(pagetrap::store::Store& store, const Corpus& corpus) {
  WordIndex& index = *store.root<WordIndex>("words").value();
  if (index.documents == 0)
    store.transaction([&] { index.fingerprint = corpus.fingerprint(); }).value();
  if (index.fingerprint != corpus.fingerprint())
    throw std::runtime_error("the store has another text's index");
  return index;
}

/// Kills a process that indexes `corpus` into the store at `path` after about half of it.
inline CrashFacts crash_and_recover(const std::string& path, const Corpus& corpus,
                                    const pagetrap::store::StoreOptions& options = {}) {
  void* const shared =
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) throw std::runtime_error("mmap");
  auto& acknowledged = *new (shared) std::atomic<std::uint32_t>(0);
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork");
  if (child == 0) {
    auto store = pagetrap::store::Store::open(path, options).value();
    index_documents(store, open_index(store, corpus), corpus, &acknowledged);
    ::_exit(0);
  }
  while (acknowledged.load() < corpus.documents().size() / 2 &&
         ::waitpid(child, nullptr, WNOHANG) == 0)
    std::this_thread::sleep_for(std::chrono::microseconds(300));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);

  CrashFacts facts;
  facts.acknowledged = acknowledged.load();
  ::munmap(shared, 4096);
  const auto begin = std::chrono::steady_clock::now();
  const auto store = pagetrap::store::Store::open(path, options).value();
  const WordIndex& index = *store.find<WordIndex>("words").value();
  static_cast<void>(index.documents_of.contains("the"));
  facts.open_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  facts.found = index.documents;
  facts.from_log = store.statistics().recovered_commits;
  facts.words = index.documents_of.size();
  WordIndex expected(std::pmr::new_delete_resource());
  while (expected.documents < index.documents) expected.add(corpus.documents()[expected.documents]);
  facts.differences = differences(index, expected);
  return facts;
}

}  // namespace example
