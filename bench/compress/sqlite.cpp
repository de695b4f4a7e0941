// compress.sqlite_50: selects from a database in memory, whose pages are in compressed memory, or
// under zram. SQLite itself keeps all pages of such a database in its page cache, and takes the
// memory for that from whoever configures it: the same on both sides.
#include <random>
#include <stdexcept>

#include "compress/questions.hpp"
#include "compress/sides.hpp"
#include "compress/sqlite_library.hpp"
#include "compress/text.hpp"
#include "harness/clock.hpp"
#include "harness/cpus.hpp"
#include "harness/mapping.hpp"

namespace pagetrap::bench {

namespace {

constexpr int kDatabasePage = 4096;

/// One in a process: SQLite has one configuration.
class Database {
 public:
  Database(const Sqlite& sqlite, std::byte* memory, std::size_t size_bytes) : sqlite_(sqlite) {
    int header = 0;
    check(sqlite_.config(Sqlite::kConfigSingleThread), "configure");
    check(sqlite_.config(Sqlite::kConfigPageCacheHeader, &header), "configure");
    const int slot = (kDatabasePage + header + 7) / 8 * 8;
    slots_ = size_bytes / static_cast<std::size_t>(slot);
    check(sqlite_.config(Sqlite::kConfigPageCache, memory, slot, static_cast<int>(slots_)),
          "configure");
    check(sqlite_.open(":memory:", &database_), "open");
    run_all(
        "PRAGMA page_size = 4096; CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT, about "
        "TEXT)");
  }

  /// As many rows as there is room for, a few hundred bytes of JSON in each.
  void fill(const std::vector<std::string>& text) {
    sqlite3_stmt* const insert = prepare("INSERT INTO users VALUES(?1, ?2, ?3)");
    sqlite3_stmt* const pages = prepare("PRAGMA page_count");
    run_all("BEGIN");
    std::mt19937_64 random(4);
    constexpr std::size_t kSpare = 64;  // what statements take for a while, and the next rows
    for (bool room = true; room;) {
      for (int i = 0; i < 100; ++i, ++rows_) {
        const std::string name = "user " + std::to_string(rows_);
        const std::string about = json_value(text, rows_, random);
        check(sqlite_.bind_integer(insert, 1, static_cast<long long>(rows_)), "bind");
        check(sqlite_.bind_text(insert, 2, name.data(), static_cast<int>(name.size()), nullptr),
              "bind");
        check(sqlite_.bind_text(insert, 3, about.data(), static_cast<int>(about.size()), nullptr),
              "bind");
        if (sqlite_.step(insert) != Sqlite::kDone) throw std::runtime_error("SQLite: insert");
        check(sqlite_.reset(insert), "reset");
        lengths_.push_back(static_cast<std::uint16_t>(name.size() + about.size()));
      }
      if (sqlite_.step(pages) != Sqlite::kRow) throw std::runtime_error("SQLite: page_count");
      room = static_cast<std::size_t>(sqlite_.column_integer(pages, 0)) + kSpare < slots_;
      check(sqlite_.reset(pages), "reset");
    }
    run_all("COMMIT");
    int now = 0;
    int highest = 0;
    check(sqlite_.status(Sqlite::kStatusPageCacheOverflow, &now, &highest, 0), "status");
    if (now != 0) throw std::runtime_error("SQLite has pages outside of the memory it was given");
    select_ = prepare("SELECT name, about FROM users WHERE id = ?1");
  }

  /// Nanoseconds for each of so many.
  double select(std::size_t operations) {
    return time_ns([&] {
             for (std::size_t i = 0; i < operations; ++i) select_one(random_() % rows_);
           }) /
           static_cast<double>(operations);
  }

 private:
  static void check(int result, const char* what) {
    if (result != Sqlite::kOk) throw std::runtime_error(std::string("SQLite: ") + what);
  }
  void run_all(const char* text) {
    check(sqlite_.exec(database_, text, nullptr, nullptr, nullptr), text);
  }
  sqlite3_stmt* prepare(const char* text) {
    sqlite3_stmt* statement = nullptr;
    check(sqlite_.prepare(database_, text, -1, &statement, nullptr), text);
    return statement;
  }
  void select_one(std::size_t row) {
    check(sqlite_.bind_integer(select_, 1, static_cast<long long>(row)), "bind");
    const bool there = sqlite_.step(select_) == Sqlite::kRow &&
                       sqlite_.column_text(select_, 0) != nullptr &&
                       sqlite_.column_text(select_, 1) != nullptr;
    if (!there || sqlite_.column_bytes(select_, 0) + sqlite_.column_bytes(select_, 1) !=
                      static_cast<int>(lengths_[row]))
      throw std::runtime_error("a row has not what was put into it");
    check(sqlite_.reset(select_), "reset");
  }

  const Sqlite& sqlite_;
  sqlite3* database_ = nullptr;
  sqlite3_stmt* select_ = nullptr;
  std::size_t slots_ = 0;
  std::size_t rows_ = 0;
  std::vector<std::uint16_t> lengths_;  // of both texts of a row
  std::mt19937_64 random_{5};
};

void measure(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  Sqlite sqlite;
  if (!sqlite.open_library()) report.skip("SQLite is not installed (tools/install-rivals)");
  const auto text = text_lines(16_MiB);
  if (text.size() < kEnoughLines) report.skip("not enough text in /usr/include and /usr/share/doc");
  const std::size_t size = effort.quick ? 64_MiB : 192_MiB;
  const std::size_t operations = 4'000;
  report.parameter("memory_bytes", static_cast<double>(size));
  const auto make = [&]() -> Peer::Batch {
    const auto memory = std::make_shared<Mapping>(size);
    const auto database = std::make_shared<Database>(sqlite, memory->data(), size);
    database->fill(text);
    return [memory, database] { return database->select(operations); };
  };
  // The kernel kills some of them at their first selects.
  constexpr int kMostStarts = 4;
  std::unique_ptr<ZramSide> living;
  for (int killed = 0; living == nullptr; ++killed) {
    if (killed == kMostStarts) report.skip(kKilled);
    living = std::make_unique<ZramSide>(report, size, 0.5, make);
    double ignored = 0;
    for (int i = 0; i < 3 && living != nullptr; ++i)
      if (!living->measure(ignored)) living.reset();
    if (living != nullptr && killed > 0) report.parameter("rival_killed_before", killed);
  }
  ZramSide& rival = *living;
  const std::size_t total = rival.total_bytes();
  report.parameter("rival_total_share", static_cast<double>(total) / static_cast<double>(size));
  CompressedSide ours(report, size, total - bookkeeping_bytes(size, total), 0);
  Database database(sqlite, ours.data(), size);
  database.fill(text);
  ours.warm_up([&] { static_cast<void>(database.select(operations)); });
  interleave_with_zram(
      effort, report, [&] { return database.select(operations); }, rival);
  ours.describe(report, size);
  report.parameter("rival_total_share_after",
                   static_cast<double>(rival.total_bytes()) / static_cast<double>(size));
}

}  // namespace

void add_sqlite(Questions& questions) {
  questions.push_back(
      {.id = "compress.sqlite_50",
       .asks = "a row by its key from SQLite in memory, at random, half of the pages in memory",
       .ours = "SQLite's page cache in a region of compress::CompressedSource",
       .rival = "the same in plain memory, zram (LZ4) swap, as many bytes in all",
       .unit = "ns",
       .target = 0.35,
       .measure = measure,
       .bound = "SQLite writes to each page that it reads: a second fault, and a page that leaves "
                "by a move with a TLB shootdown of its own"});
}

}  // namespace pagetrap::bench
