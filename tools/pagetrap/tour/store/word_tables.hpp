// The word index of examples/word_store.hpp in a persistent store, in LMDB and in SQLite: the same
// documents, the same transactions, the same answers.
#pragma once

#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>

namespace pagetrap::tool {

/// Throws std::exception when something goes wrong. Destruction closes its files.
class WordTable {
 public:
  virtual ~WordTable() = default;
  /// Words and receipts of documents `first` and following, in one durable transaction.
  virtual void add(std::uint32_t first, std::span<const std::string_view> documents) = 0;
  /// The sum of all numbers of documents with the word, each plus one.
  virtual std::uint64_t look_up(const std::pmr::string& word) = 0;

 protected:
  WordTable() = default;
};

/// In a directory, which is empty. The last two throw bench::NotInstalled.
using OpenWordTable = std::unique_ptr<WordTable> (*)(const std::string& directory);
std::unique_ptr<WordTable> open_store_words(const std::string& directory);
std::unique_ptr<WordTable> open_lmdb_words(const std::string& directory);
std::unique_ptr<WordTable> open_sqlite_words(const std::string& directory);

}  // namespace pagetrap::tool
