// Which documents have a word: an index in ordinary containers, in a persistent store. A document
// is indexed in one transaction, so that after a crash each is there as a whole or not at all.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <memory_resource>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <pagetrap/store/store.hpp>

#include "text_corpus.hpp"

namespace example {

/// Lives in the store. Nothing in it knows of that.
struct WordIndex {
  using allocator_type = std::pmr::polymorphic_allocator<>;
  explicit WordIndex(allocator_type allocator) : documents_of(allocator) {}

  void add(std::string_view document);

  std::uint32_t documents = 0;
  std::uint64_t fingerprint = 0;  // of the text
  std::pmr::unordered_map<std::pmr::string, std::pmr::vector<std::uint32_t>> documents_of;
};

inline void WordIndex::add(std::string_view document) {
  for_each_word(document, [&](std::string_view found, std::uint32_t) {
    std::pmr::string word(found, documents_of.get_allocator());
    std::transform(word.begin(), word.end(), word.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    auto& list = documents_of[std::move(word)];
    if (list.empty() || list.back() != documents) list.push_back(documents);
  });
  documents += 1;
}

/// How many words two indexes disagree about.
inline std::size_t differences(const WordIndex& a, const WordIndex& b) {
  std::size_t count = 0;
  for (const auto& [word, list] : a.documents_of) {
    const auto other = b.documents_of.find(word);
    if (other == b.documents_of.end() || other->second != list) ++count;
  }
  for (const auto& [word, list] : b.documents_of)
    if (!a.documents_of.contains(word)) ++count;
  return count;
}

}  // namespace example
