// A text index in a collected heap, of which each document makes a new version: nothing in a
// version is ever changed, so that threads ask any of them without a lock while the next one is
// being made. The collector finds out which versions nobody has any more.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <pagetrap/gc/gc.hpp>

#include "text_corpus.hpp"

namespace example {

namespace gc = pagetrap::gc;

/// A document that has a word.
struct Mention : gc::object<Mention> {
  gc::ref<Mention> older;  // in a document before
  std::uint32_t document = 0;
  std::uint32_t count = 0;
  static constexpr auto members = gc::members(&Mention::older);
};

/// A word: a node of a search tree ordered by hashes, which are as good as random, so that the tree
/// is balanced without anybody's doing.
struct Term : gc::object<Term> {
  gc::ref<Term> less, greater;
  gc::ref<gc::array<char>> word;
  gc::ref<Mention> newest;
  std::uint64_t hash = 0;
  std::uint64_t documents = 0;
  static constexpr auto members =
      gc::members(&Term::less, &Term::greater, &Term::word, &Term::newest);

  [[nodiscard]] std::string_view text() const { return {word->data(), word->size()}; }
};

/// The index of the first so many documents.
struct Version : gc::object<Version> {
  gc::ref<Term> words;
  std::uint32_t documents = 0;
  static constexpr auto members = gc::members(&Version::words);
};

struct Key {
  std::uint64_t hash;
  std::string_view word;
  explicit Key(std::string_view text) : hash(hash_of(text)), word(text) {}
  explicit Key(const Term& term) : hash(term.hash), word(term.text()) {}
  friend auto operator<=>(const Key&, const Key&) = default;
};

inline const Term* find(const Version& version, std::string_view word) {
  const Key key(word);
  const Term* at = version.words;
  while (at != nullptr) {
    const auto order = key <=> Key(*at);
    if (order == 0) return at;
    at = order < 0 ? at->less : at->greater;
  }
  return nullptr;
}

/// The index as of now. Threads that call are attached to the heap.
class LiveIndex {
 public:
  explicit LiveIndex(gc::Heap& heap) : heap_(heap), latest_(heap, heap.make<Version>()) {}

  /// Stays as it is, as long as the caller has it on its stack.
  [[nodiscard]] const Version* latest() const {
    const std::lock_guard lock(lock_);
    return latest_.get();
  }

  /// One thread at a time.
  void add(std::string_view document) {
    counts_.clear();
    for_each_word(document, [&](std::string_view word, std::uint32_t) { ++counts_[word]; });
    const Version* const now = latest();
    Term* words = now->words;
    for (const auto& [word, count] : counts_) words = with(words, Key(word), now->documents, count);
    const auto next = heap_.make<Version>(words, now->documents + 1);
    const std::lock_guard lock(lock_);
    latest_ = next;
  }

 private:
  /// The tree below `at` with one mention more. Only the way to it is new, the rest is shared.
  Term* with(const Term* at, const Key& key, std::uint32_t document, std::uint32_t count) {
    if (at == nullptr) {
      const auto word = heap_.make_array<char>(key.word.size());
      std::memcpy(word->data(), key.word.data(), key.word.size());
      const auto first = heap_.make<Mention>(nullptr, document, count);
      return heap_.make<Term>(nullptr, nullptr, word, first, key.hash, std::uint64_t{1});
    }
    Term* const changed =
        heap_.make<Term>(at->less, at->greater, at->word, at->newest, at->hash, at->documents);
    if (const auto order = key <=> Key(*at); order < 0) {
      changed->less = with(at->less, key, document, count);
    } else if (order > 0) {
      changed->greater = with(at->greater, key, document, count);
    } else {
      changed->newest = heap_.make<Mention>(at->newest, document, count);
      ++changed->documents;
    }
    return changed;
  }

  gc::Heap& heap_;
  mutable std::mutex lock_;
  gc::root<Version> latest_;  // GUARDED_BY(lock_)
  std::unordered_map<std::string_view, std::uint32_t> counts_;
};

/// Which documents have both words.
struct Answer {
  std::uint64_t documents = 0;
  bool has(std::uint32_t document) const { return asked_for == document; }
  std::uint32_t asked_for = ~std::uint32_t{0};
};

/// Both lists are followed, the newest document first.
inline Answer ask(const Version& version, std::string_view a, std::string_view b,
                  std::uint32_t expected) {
  Answer answer;
  const Term* const first = find(version, a);
  const Term* const second = find(version, b);
  if (first == nullptr || second == nullptr) return answer;
  const Mention* x = first->newest;
  const Mention* y = second->newest;
  while (x != nullptr && y != nullptr) {
    if (x->document == y->document) {
      ++answer.documents;
      if (x->document == expected) answer.asked_for = expected;
      x = x->older;
      y = y->older;
    } else if (x->document > y->document) {
      x = x->older;
    } else {
      y = y->older;
    }
  }
  return answer;
}

struct IndexComparison {
  std::uint64_t words = 0;
  std::uint64_t mentions = 0;
  std::uint64_t differences = 0;
};

/// With an index made anew of the same documents, in standard containers.
inline IndexComparison compare(const Version& version, const Corpus& corpus) {
  std::unordered_map<std::string_view, std::unordered_map<std::uint32_t, std::uint32_t>> expected;
  for (std::uint32_t i = 0; i < version.documents; ++i)
    for_each_word(corpus.documents()[i],
                  [&](std::string_view word, std::uint32_t) { ++expected[word][i]; });
  IndexComparison result;
  for (const auto& [word, documents] : expected) {
    ++result.words;
    const Term* const term = find(version, word);
    std::uint64_t right = 0;
    std::uint64_t found = 0;
    std::uint32_t before = ~std::uint32_t{0};
    for (const Mention* at = term == nullptr ? nullptr : term->newest; at != nullptr;
         at = at->older) {
      ++found;
      const auto same = documents.find(at->document);
      right += same != documents.end() && same->second == at->count && at->document < before;
      before = at->document;
    }
    result.mentions += found;
    if (right != documents.size() || found != right || term->documents != right)
      ++result.differences;
  }
  return result;
}

/// Nodes of the tree: as many as there are words, or one is there twice.
inline std::uint64_t count_words(const Term* at) {
  return at == nullptr ? 0 : 1 + count_words(at->less) + count_words(at->greater);
}

}  // namespace example
