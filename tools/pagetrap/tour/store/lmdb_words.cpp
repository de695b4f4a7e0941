// LMDB as it is by default. A word's documents are a sorted list of integers under one key, which
// is its own way of doing this.
#include <sys/types.h>

#include <cstring>

#include "../../../../bench/rivals/record_store.hpp"
#include "../../../../examples/word_store_proof.hpp"
#include "word_tables.hpp"

namespace pagetrap::tool {
namespace {

// SOURCE lmdb.h of 0.9.
constexpr unsigned kReadOnly = 0x20000;
constexpr unsigned kDuplicates = 0x04;
constexpr unsigned kIntegerKeys = 0x08;
constexpr unsigned kFixedDuplicates = 0x10;
constexpr unsigned kIntegerDuplicates = 0x20;
constexpr unsigned kCreate = 0x40000;
constexpr unsigned kAppendDuplicate = 0x40000;
constexpr int kGetMultiple = 5;
constexpr int kNextMultiple = 10;
constexpr int kSet = 15;
constexpr int kNotFound = -30798;
struct Value {
  std::size_t size;
  void* data;
};

class LmdbWords final : public WordTable {
 public:
  explicit LmdbWords(const std::string& directory) : library_("liblmdb.so.0", "liblmdb-dev") {
    int (*create)(void**) = nullptr;
    int (*set_mapsize)(void*, std::size_t) = nullptr;
    int (*set_maxdbs)(void*, unsigned) = nullptr;
    int (*open)(void*, const char*, unsigned, mode_t) = nullptr;
    int (*dbi_open)(void*, const char*, unsigned, unsigned*) = nullptr;
    library_.find("mdb_env_create", create);
    library_.find("mdb_env_set_mapsize", set_mapsize);
    library_.find("mdb_env_set_maxdbs", set_maxdbs);
    library_.find("mdb_env_open", open);
    library_.find("mdb_env_close", close_);
    library_.find("mdb_txn_begin", begin_);
    library_.find("mdb_txn_commit", commit_);
    library_.find("mdb_txn_abort", abort_);
    library_.find("mdb_txn_reset", reset_);
    library_.find("mdb_txn_renew", renew_);
    library_.find("mdb_dbi_open", dbi_open);
    library_.find("mdb_put", put_);
    library_.find("mdb_cursor_open", cursor_open_);
    library_.find("mdb_cursor_renew", cursor_renew_);
    library_.find("mdb_cursor_get", cursor_get_);
    library_.find("mdb_cursor_close", cursor_close_);
    check(create(&environment_), "create");
    check(set_mapsize(environment_, std::size_t{1} << 30), "mapsize");
    check(set_maxdbs(environment_, 2), "maxdbs");
    check(open(environment_, directory.c_str(), 0, 0600), "open");
    void* const transaction = begin(0);
    check(dbi_open(transaction, "postings",
                   kDuplicates | kFixedDuplicates | kIntegerDuplicates | kCreate, &postings_),
          "dbi_open");
    check(dbi_open(transaction, "receipts", kIntegerKeys | kCreate, &receipts_), "dbi_open");
    check(commit_(transaction), "commit");
  }
  ~LmdbWords() override {
    if (cursor_ != nullptr) cursor_close_(cursor_);
    if (reader_ != nullptr) abort_(reader_);
    close_(environment_);
  }
  LmdbWords(const LmdbWords&) = delete;
  LmdbWords& operator=(const LmdbWords&) = delete;

  void add(std::uint32_t first, std::span<const std::string_view> documents) override {
    void* const transaction = begin(0);
    for (std::uint32_t document = first; const std::string_view text : documents) {
      const auto words = example::words_of_document(text);
      for (const std::string& word : words)
        put(transaction, postings_, {word.size(), const_cast<char*>(word.data())},
            {sizeof document, &document}, kAppendDuplicate);
      text_ = example::text_so_far(text_, text);
      example::Receipt receipt{text_, words.size()};
      put(transaction, receipts_, {sizeof document, &document}, {sizeof receipt, &receipt}, 0);
      ++document;
    }
    check(commit_(transaction), "commit");
  }

  std::uint64_t look_up(const std::pmr::string& word) override {
    if (reader_ == nullptr) {
      reader_ = begin(kReadOnly);
      check(cursor_open_(reader_, postings_, &cursor_), "cursor");
    } else {
      check(renew_(reader_), "renew");
      check(cursor_renew_(reader_, cursor_), "renew");
    }
    Value key{word.size(), const_cast<char*>(word.data())};
    Value found{};
    std::uint64_t sum = 0;
    int error = cursor_get_(cursor_, &key, &found, kSet);
    // A word with one document keeps what the first call found.
    if (error == 0) error = cursor_get_(cursor_, &key, &found, kGetMultiple);
    while (error == 0) {
      for (std::size_t at = 0; at < found.size; at += sizeof(std::uint32_t)) {
        std::uint32_t document = 0;
        std::memcpy(&document, static_cast<const char*>(found.data) + at, sizeof document);
        sum += document + 1;
      }
      error = cursor_get_(cursor_, &key, &found, kNextMultiple);
    }
    bench::require(error == kNotFound, "lmdb get: " + std::to_string(error));
    reset_(reader_);
    return sum;
  }

 private:
  static void check(int error, const char* what) {
    bench::require(error == 0, std::string("lmdb ") + what + ": " + std::to_string(error));
  }
  void* begin(unsigned flags) {
    void* transaction = nullptr;
    check(begin_(environment_, nullptr, flags, &transaction), "begin");
    return transaction;
  }
  void put(void* transaction, unsigned table, Value key, Value data, unsigned flags) {
    check(put_(transaction, table, &key, &data, flags), "put");
  }

  bench::Library library_;
  void (*close_)(void*) = nullptr;
  int (*begin_)(void*, void*, unsigned, void**) = nullptr;
  int (*commit_)(void*) = nullptr;
  void (*abort_)(void*) = nullptr;
  void (*reset_)(void*) = nullptr;
  int (*renew_)(void*) = nullptr;
  int (*put_)(void*, unsigned, Value*, Value*, unsigned) = nullptr;
  int (*cursor_open_)(void*, unsigned, void**) = nullptr;
  int (*cursor_renew_)(void*, void*) = nullptr;
  int (*cursor_get_)(void*, Value*, Value*, int) = nullptr;
  void (*cursor_close_)(void*) = nullptr;
  void* environment_ = nullptr;
  void* reader_ = nullptr;  // kept, as LMDB advises
  void* cursor_ = nullptr;
  unsigned postings_ = 0;
  unsigned receipts_ = 0;
  std::uint64_t text_ = 0;
};

}  // namespace

std::unique_ptr<WordTable> open_lmdb_words(const std::string& directory) {
  return std::make_unique<LmdbWords>(directory);
}

}  // namespace pagetrap::tool
