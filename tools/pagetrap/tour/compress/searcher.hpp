// What the chapter about compressed memory runs: an index of text in standard containers, and
// questions to it. The same for memory of every kind.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory_resource>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "../../../../examples/text_corpus.hpp"

namespace pagetrap::tool {

/// What some questions cost.
struct Asked {
  double mean_us = 0;
  double median_us = 0;
  double p999_us = 0;
  std::uint64_t sum = 0;  // of all answers
};

class Searcher {
 public:
  explicit Searcher(std::pmr::memory_resource* memory) : documents_(memory), words_(memory) {}

  void read(const example::Corpus& corpus) {
    for (const std::string_view document : corpus.documents()) {
      const auto number = static_cast<std::uint32_t>(documents_.size());
      documents_.emplace_back(document);
      for_words(document, [&](std::string_view word) {
        auto& where = words_[std::pmr::string(word, words_.get_allocator().resource())];
        if (where.empty() || where.back() != number) where.push_back(number);
      });
    }
  }

  /// In how many documents a word is, and what the first letters of three of them are.
  [[nodiscard]] std::uint64_t answer(const std::pmr::string& word) const {
    const auto found = words_.find(word);
    if (found == words_.end()) return 0;
    std::uint64_t sum = found->second.size();
    for (std::size_t i = 0; i < std::min<std::size_t>(3, found->second.size()); ++i) {
      const auto& document = documents_[found->second[found->second.size() - 1 - i]];
      for (std::size_t at = 0; at < document.size(); at += 64)
        sum = sum * 31 + static_cast<unsigned char>(document[at]);
    }
    return sum;
  }

  /// The same questions each time: words of documents that are drawn at random.
  [[nodiscard]] Asked ask(const example::Corpus& corpus, std::size_t questions) const {
    using Clock = std::chrono::steady_clock;
    Asked asked;
    std::vector<double> times;
    times.reserve(questions);
    std::uint64_t random = 5;
    while (times.size() < questions) {
      random = random * 6364136223846793005U + 1442695040888963407U;
      const auto& documents = corpus.documents();
      const std::string_view document = documents[(random >> 33) % documents.size()];
      const std::size_t start = document.empty() ? 0 : (random >> 20) % document.size();
      std::string_view word;
      for_words(document.substr(start), [&](std::string_view next) {
        if (word.empty()) word = next;
      });
      if (word.empty()) continue;
      const std::pmr::string question(word, std::pmr::new_delete_resource());
      const auto begin = Clock::now();
      asked.sum = asked.sum * 31 + answer(question);
      times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    }
    for (const double time : times) asked.mean_us += time / static_cast<double>(questions);
    std::sort(times.begin(), times.end());
    asked.median_us = times[questions / 2];
    asked.p999_us = times[questions - questions / 1000 - 1];
    return asked;
  }

 private:
  template <class Use>
  static void for_words(std::string_view text, Use use) {
    const auto is_letter = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    };
    for (std::size_t at = 0; at < text.size();) {
      while (at < text.size() && !is_letter(text[at])) ++at;
      const std::size_t begin = at;
      while (at < text.size() && is_letter(text[at])) ++at;
      if (at - begin >= 3) use(text.substr(begin, std::min<std::size_t>(at - begin, 40)));
    }
  }

  std::pmr::vector<std::pmr::string> documents_;
  std::pmr::unordered_map<std::pmr::string, std::pmr::vector<std::uint32_t>> words_;
};

/// Counts what is allocated from malloc.
class CountingMemory final : public std::pmr::memory_resource {
 public:
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  void* do_allocate(std::size_t size, std::size_t alignment) override {
    bytes_ += size;
    return std::pmr::new_delete_resource()->allocate(size, alignment);
  }
  void do_deallocate(void* block, std::size_t size, std::size_t alignment) override {
    bytes_ -= size;
    std::pmr::new_delete_resource()->deallocate(block, size, alignment);
  }
  [[nodiscard]] bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }
  std::size_t bytes_ = 0;
};

}  // namespace pagetrap::tool
