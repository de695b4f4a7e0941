// Whether an index is that of the first so many documents: another one is made of the same text, in
// memory and by other code, and everything compared.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "text_corpus.hpp"
#include "word_store.hpp"

namespace example {

/// The words of a document in order, each once.
inline std::set<std::string> words_of_document(std::string_view document) {
  std::set<std::string> words;
  for_each_word(document, [&](std::string_view word, std::uint32_t) { words.insert(lower(word)); });
  return words;
}

struct Proof {
  std::uint64_t documents = 0;
  std::uint64_t words = 0;
  std::uint64_t postings = 0;
  std::uint64_t wrong_receipts = 0;
  std::uint64_t wrong_words = 0;    // with other documents, or only on one side
  bool whole_transactions = false;  // of kTogether documents each, but the last
  bool sees_one_more = false;       // a document that the index has not makes a difference

  [[nodiscard]] bool right() const {
    return wrong_receipts == 0 && wrong_words == 0 && whole_transactions && sees_one_more;
  }
};

using PlainIndex = std::map<std::string, std::vector<std::uint32_t>, std::less<>>;

inline std::uint64_t wrong_words(const WordIndex& index, const PlainIndex& plain) {
  std::uint64_t count = 0;
  for (const auto& [word, list] : index.documents_of) {
    const auto there = plain.find(std::string_view(word));
    if (there == plain.end() ||
        !std::equal(list.begin(), list.end(), there->second.begin(), there->second.end()))
      ++count;
  }
  for (const auto& [word, list] : plain)
    if (index.documents_of.find(word.c_str()) == index.documents_of.end()) ++count;
  return count;
}

inline Proof prove(const WordIndex& index, const Corpus& corpus) {
  Proof proof;
  proof.documents = index.documents();
  proof.words = index.documents_of.size();
  const auto& documents = corpus.documents();
  proof.whole_transactions =
      index.documents() % kTogether == 0 || index.documents() == documents.size();
  PlainIndex plain;
  std::uint64_t text = 0;
  for (std::uint32_t i = 0; i < std::min<std::size_t>(index.documents(), documents.size()); ++i) {
    const auto words = words_of_document(documents[i]);
    for (const std::string& word : words) plain[word].push_back(i);
    text = text_so_far(text, documents[i]);
    const Receipt& receipt = index.receipts[i];
    if (receipt.text != text || receipt.postings != words.size()) ++proof.wrong_receipts;
    proof.postings += words.size();
  }
  if (index.documents() > documents.size())
    proof.wrong_receipts += index.documents() - documents.size();
  proof.wrong_words = wrong_words(index, plain);
  for (const std::string& word : words_of_document("One document too many"))
    plain[word].push_back(index.documents());
  proof.sees_one_more = wrong_words(index, plain) >= proof.wrong_words + 4;
  return proof;
}

}  // namespace example
