// Which documents have a word: an index in ordinary containers, in a persistent store. Some
// documents are indexed in one transaction, so that after a crash they are there together or not
// at all.
#pragma once

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <cstdint>
#include <memory_resource>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <pagetrap/store/store.hpp>

#include "text_corpus.hpp"

namespace example {

/// Documents of one transaction.
inline constexpr std::uint32_t kTogether = 4;

/// What the index says that it did with a document.
struct Receipt {
  std::uint64_t text = 0;      // checksum of this document and all before
  std::uint64_t postings = 0;  // different words in it
};

inline std::uint64_t text_so_far(std::uint64_t before, std::string_view document) {
  return (before ^ hash_of(document)) * 0x100000001b3;
}

inline std::string lower(std::string_view word) {
  std::string made(word);
  std::transform(made.begin(), made.end(), made.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return made;
}

/// Lives in the store. Nothing in it knows of that.
struct WordIndex {
  using allocator_type = std::pmr::polymorphic_allocator<>;
  explicit WordIndex(allocator_type allocator) : receipts(allocator), documents_of(allocator) {}

  [[nodiscard]] std::uint32_t documents() const {
    return static_cast<std::uint32_t>(receipts.size());
  }
  void add(std::string_view document);

  std::uint64_t fingerprint = 0;  // of the whole text
  std::pmr::vector<Receipt> receipts;
  std::pmr::unordered_map<std::pmr::string, std::pmr::vector<std::uint32_t>> documents_of;
};

inline void WordIndex::add(std::string_view document) {
  const std::uint32_t number = documents();
  Receipt receipt{text_so_far(receipts.empty() ? 0 : receipts.back().text, document), 0};
  for_each_word(document, [&](std::string_view found, std::uint32_t) {
    auto& list = documents_of[std::pmr::string(lower(found), documents_of.get_allocator())];
    if (!list.empty() && list.back() == number) return;
    list.push_back(number);
    receipt.postings += 1;
  });
  receipts.push_back(receipt);
}

inline WordIndex& open_index(pagetrap::store::Store& store, const Corpus& corpus) {
  WordIndex& index = *store.root<WordIndex>("words").value();
  if (index.receipts.empty())
    store.transaction([&] { index.fingerprint = corpus.fingerprint(); }).value();
  if (index.fingerprint != corpus.fingerprint())
    throw std::runtime_error("the store has another text's index");
  return index;
}

/// What a process tells about itself in memory that outlives it.
struct Witness {
  std::atomic<std::uint32_t> acknowledged = 0;  // documents whose commit has returned
  std::atomic<bool> committing = false;         // from the body's end until the commit returns
  std::atomic<std::uint64_t> commit_us = 100;   // how long the last one took
};

/// The next documents of `corpus` that `index` does not have.
inline void index_some(pagetrap::store::Store& store, WordIndex& index, const Corpus& corpus,
                       Witness* witness = nullptr) {
  using Clock = std::chrono::steady_clock;
  const auto& documents = corpus.documents();
  Clock::time_point body_ended;
  store
      .transaction([&] {
        for (std::uint32_t i = 0; i < kTogether && index.documents() < documents.size(); ++i)
          index.add(documents[index.documents()]);
        body_ended = Clock::now();
        if (witness != nullptr) witness->committing = true;
      })
      .value();
  if (witness == nullptr) return;
  witness->committing = false;
  witness->acknowledged = index.documents();
  const auto took =
      std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - body_ended);
  witness->commit_us = static_cast<std::uint64_t>(took.count());
}

inline void index_all(pagetrap::store::Store& store, WordIndex& index, const Corpus& corpus,
                      Witness* witness = nullptr) {
  while (index.documents() < corpus.documents().size()) index_some(store, index, corpus, witness);
}

}  // namespace example
