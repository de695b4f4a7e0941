// SQLite with a write-ahead log and synchronous=FULL, statements prepared, all of it in the cache.
#include "../../../../bench/rivals/record_store.hpp"
#include "../../../../examples/word_store_proof.hpp"
#include "word_tables.hpp"

namespace pagetrap::tool {
namespace {

// SOURCE sqlite3.h.
constexpr int kRow = 100;
constexpr int kDone = 101;

class SqliteWords final : public WordTable {
 public:
  explicit SqliteWords(const std::string& directory)
      : library_("libsqlite3.so.0", "libsqlite3-dev") {
    int (*open)(const char*, void**) = nullptr;
    library_.find("sqlite3_open", open);
    library_.find("sqlite3_close", close_);
    library_.find("sqlite3_exec", execute_);
    library_.find("sqlite3_prepare_v2", prepare_);
    library_.find("sqlite3_bind_int64", bind_number_);
    library_.find("sqlite3_bind_text", bind_text_);
    library_.find("sqlite3_step", step_);
    library_.find("sqlite3_reset", reset_);
    library_.find("sqlite3_finalize", finalize_);
    library_.find("sqlite3_column_int64", column_);
    bench::require(open((directory + "/words.db").c_str(), &database_) == 0, "sqlite open");
    run("PRAGMA journal_mode=WAL");
    run("PRAGMA synchronous=FULL");
    run("PRAGMA cache_size=-1000000");
    run("CREATE TABLE postings(word TEXT, document INTEGER, PRIMARY KEY(word, document)) "
        "WITHOUT ROWID");
    run("CREATE TABLE receipts(document INTEGER PRIMARY KEY, text INTEGER, postings INTEGER)");
    posting_ = prepare("INSERT INTO postings VALUES(?1, ?2)");
    receipt_ = prepare("INSERT INTO receipts VALUES(?1, ?2, ?3)");
    select_ = prepare("SELECT sum(document + 1) FROM postings WHERE word = ?1");
    begin_ = prepare("BEGIN IMMEDIATE");
    commit_ = prepare("COMMIT");
  }
  ~SqliteWords() override {
    for (void* statement : {posting_, receipt_, select_, begin_, commit_}) finalize_(statement);
    close_(database_);
  }
  SqliteWords(const SqliteWords&) = delete;
  SqliteWords& operator=(const SqliteWords&) = delete;

  void add(std::uint32_t first, std::span<const std::string_view> documents) override {
    step(begin_);
    for (std::uint32_t document = first; const std::string_view text : documents) {
      const auto words = example::words_of_document(text);
      bind_number_(posting_, 2, document);
      for (const std::string& word : words) {
        bind_text_(posting_, 1, word.data(), static_cast<int>(word.size()), nullptr);
        step(posting_);
      }
      text_ = example::text_so_far(text_, text);
      bind_number_(receipt_, 1, document);
      bind_number_(receipt_, 2, static_cast<std::int64_t>(text_));
      bind_number_(receipt_, 3, static_cast<std::int64_t>(words.size()));
      step(receipt_);
      ++document;
    }
    step(commit_);
  }

  std::uint64_t look_up(const std::pmr::string& word) override {
    bind_text_(select_, 1, word.data(), static_cast<int>(word.size()), nullptr);
    bench::require(step_(select_) == kRow, "sqlite select");
    const auto sum = static_cast<std::uint64_t>(column_(select_, 0));
    reset_(select_);
    return sum;
  }

 private:
  void run(const std::string& words) {
    bench::require(execute_(database_, words.c_str(), nullptr, nullptr, nullptr) == 0,
                   "sqlite " + words);
  }
  void* prepare(const char* words) {
    void* statement = nullptr;
    bench::require(prepare_(database_, words, -1, &statement, nullptr) == 0, words);
    return statement;
  }
  void step(void* statement) {
    bench::require(step_(statement) == kDone, "sqlite step");
    reset_(statement);
  }

  bench::Library library_;
  int (*close_)(void*) = nullptr;
  int (*execute_)(void*, const char*, void*, void*, void*) = nullptr;
  int (*prepare_)(void*, const char*, int, void**, const char**) = nullptr;
  int (*bind_number_)(void*, int, std::int64_t) = nullptr;
  int (*bind_text_)(void*, int, const char*, int, void*) = nullptr;
  int (*step_)(void*) = nullptr;
  int (*reset_)(void*) = nullptr;
  int (*finalize_)(void*) = nullptr;
  std::int64_t (*column_)(void*, int) = nullptr;
  void* database_ = nullptr;
  void* posting_ = nullptr;
  void* receipt_ = nullptr;
  void* select_ = nullptr;
  void* begin_ = nullptr;
  void* commit_ = nullptr;
  std::uint64_t text_ = 0;
};

}  // namespace

std::unique_ptr<WordTable> open_sqlite_words(const std::string& directory) {
  return std::make_unique<SqliteWords>(directory);
}

}  // namespace pagetrap::tool
