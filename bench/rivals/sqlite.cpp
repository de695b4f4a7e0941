// SQLite with a write-ahead log and synchronous=FULL (OFF without durability), statements prepared.
#include <cstring>

#include "rivals/record_store.hpp"

namespace pagetrap::bench::rivals {
namespace {

constexpr int kRow = 100;
constexpr int kDone = 101;

class Sqlite final : public RecordStore {
 public:
  explicit Sqlite(const RecordStoreOptions& options)
      : library_("libsqlite3.so.0", "libsqlite3-dev") {
    int (*open)(const char*, void**) = nullptr;
    library_.find("sqlite3_open", open);
    library_.find("sqlite3_close", close_);
    library_.find("sqlite3_exec", execute_);
    library_.find("sqlite3_prepare_v2", prepare_);
    library_.find("sqlite3_bind_int64", bind_number_);
    library_.find("sqlite3_bind_blob", bind_bytes_);
    library_.find("sqlite3_step", step_);
    library_.find("sqlite3_reset", reset_);
    library_.find("sqlite3_finalize", finalize_);
    library_.find("sqlite3_column_blob", column_);
    require(open((options.directory + "/sqlite.db").c_str(), &database_) == 0, "sqlite open");
    run("PRAGMA journal_mode=WAL");
    run(options.durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=OFF");
    // All of it in the cache, as in the others.
    run("PRAGMA cache_size=-" + std::to_string(2 * options.bytes / 1024 + 1000));
    run("CREATE TABLE IF NOT EXISTS records(k INTEGER PRIMARY KEY, v BLOB)");
    insert_ = prepare("INSERT INTO records VALUES(?1, ?2)");
    update_ = prepare("UPDATE records SET v=?2 WHERE k=?1");
    select_ = prepare("SELECT v FROM records WHERE k=?1");
    begin_ = prepare("BEGIN IMMEDIATE");
    commit_ = prepare("COMMIT");
  }
  ~Sqlite() override {
    for (void* statement : {insert_, update_, select_, begin_, commit_}) finalize_(statement);
    close_(database_);
  }

  void load(std::uint64_t count) override {
    const Record value{};
    for (std::uint64_t key = 0; key < count;) {
      step(begin_);
      for (int i = 0; i < 100'000 && key < count; ++i, ++key) put(insert_, key, value);
      step(commit_);
    }
    run("PRAGMA wal_checkpoint(TRUNCATE)");
  }
  void update(std::span<const std::uint64_t> keys, const Record& value) override {
    step(begin_);
    for (const std::uint64_t key : keys) put(update_, key, value);
    step(commit_);
  }
  Record get(std::uint64_t key) override {
    bind_number_(select_, 1, static_cast<std::int64_t>(key));
    require(step_(select_) == kRow, "sqlite select");
    Record record;
    std::memcpy(record.data(), column_(select_, 0), record.size());
    reset_(select_);
    return record;
  }

 private:
  void run(const std::string& words) {
    require(execute_(database_, words.c_str(), nullptr, nullptr, nullptr) == 0, "sqlite " + words);
  }
  void* prepare(const char* words) {
    void* statement = nullptr;
    require(prepare_(database_, words, -1, &statement, nullptr) == 0, words);
    return statement;
  }
  void step(void* statement) {
    require(step_(statement) == kDone, "sqlite step");
    reset_(statement);
  }
  void put(void* statement, std::uint64_t key, const Record& value) {
    bind_number_(statement, 1, static_cast<std::int64_t>(key));
    bind_bytes_(statement, 2, value.data(), static_cast<int>(value.size()), nullptr);
    step(statement);
  }

  Library library_;
  int (*close_)(void*) = nullptr;
  int (*execute_)(void*, const char*, void*, void*, void*) = nullptr;
  int (*prepare_)(void*, const char*, int, void**, const char**) = nullptr;
  int (*bind_number_)(void*, int, std::int64_t) = nullptr;
  int (*bind_bytes_)(void*, int, const void*, int, void*) = nullptr;
  int (*step_)(void*) = nullptr;
  int (*reset_)(void*) = nullptr;
  int (*finalize_)(void*) = nullptr;
  const void* (*column_)(void*, int) = nullptr;
  void* database_ = nullptr;
  void* insert_ = nullptr;
  void* update_ = nullptr;
  void* select_ = nullptr;
  void* begin_ = nullptr;
  void* commit_ = nullptr;
};

}  // namespace

std::unique_ptr<RecordStore> open_sqlite(const RecordStoreOptions& options) {
  return std::make_unique<Sqlite>(options);
}

}  // namespace pagetrap::bench::rivals
