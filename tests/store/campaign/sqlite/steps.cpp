#include "store/campaign/sqlite/steps.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <map>
#include <stdexcept>
#include <vector>

#include "store/campaign/workload.hpp"

namespace campaign {

namespace {

constexpr std::uint64_t kKept = 100;  // steps; older ones are deleted
constexpr std::uint64_t kPlaces = 100;
// Of a log, until its pages go to the database: several times in a recording.
constexpr int kFramesToCheckpoint = 60;

/// What step `number` writes.
struct Step {
  std::string words;
  std::array<std::uint64_t, 3> places{};
};

Step step(std::uint64_t seed, std::uint64_t number) {
  Random random(seed * 0x1'0000'01b3 + number);
  Step made;
  const std::size_t length = random() % 16 == 0 ? random() % 9000 : random() % 200;
  made.words = std::string(length, static_cast<char>('a' + random() % 26));
  for (std::uint64_t& place : made.places) place = random() % kPlaces;
  return made;
}

class Statement {
 public:
  Statement(sqlite3* database, const char* words) : database_(database) {
    if (sqlite3_prepare_v2(database, words, -1, &statement_, nullptr) != SQLITE_OK) fail();
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(int parameter, std::uint64_t number) {
    if (sqlite3_bind_int64(statement_, parameter, static_cast<sqlite3_int64>(number)) != SQLITE_OK)
      fail();
    return *this;
  }
  Statement& bind(int parameter, const std::string& words) {
    if (sqlite3_bind_blob(statement_, parameter, words.data(), static_cast<int>(words.size()),
                          nullptr) != SQLITE_OK)
      fail();
    return *this;
  }
  /// Is there a row?
  bool next() {
    const int result = sqlite3_step(statement_);
    if (result != SQLITE_ROW && result != SQLITE_DONE) fail();
    return result == SQLITE_ROW;
  }
  [[nodiscard]] std::uint64_t number(int column) const {
    return static_cast<std::uint64_t>(sqlite3_column_int64(statement_, column));
  }
  [[nodiscard]] std::string words(int column) const {
    const void* const bytes = sqlite3_column_blob(statement_, column);
    const auto length = static_cast<std::size_t>(sqlite3_column_bytes(statement_, column));
    return bytes == nullptr ? "" : std::string(static_cast<const char*>(bytes), length);
  }

 private:
  [[noreturn]] void fail() const { throw std::runtime_error(sqlite3_errmsg(database_)); }
  sqlite3* database_;
  sqlite3_stmt* statement_ = nullptr;
};

/// Damage may make a loop of a tree: what would take so long is damaged.
constexpr int kMostInstructions = 20'000'000;
int give_up(void* /*unused*/) { return 1; }

}  // namespace

void StepDatabase::Close::operator()(sqlite3* database) const { sqlite3_close(database); }

StepDatabase::StepDatabase(Journal journal, Synchronous synchronous) {
  sqlite3* database = nullptr;
  const int result = sqlite3_open("steps.db", &database);
  database_.reset(database);
  if (result != SQLITE_OK) throw std::runtime_error("sqlite3_open");
  sqlite3_progress_handler(database, kMostInstructions, give_up, nullptr);
  // Before anything is read: with a log and no memory shared with others it must be alone.
  if (journal == Journal::wal) run("PRAGMA locking_mode=EXCLUSIVE");
  run(std::string("PRAGMA synchronous=") + name(synchronous));
  run(journal == Journal::wal ? "PRAGMA journal_mode=WAL" : "PRAGMA journal_mode=DELETE");
  run("PRAGMA wal_autocheckpoint=" + std::to_string(kFramesToCheckpoint));
  run("PRAGMA temp_store=MEMORY");
}

void StepDatabase::run(const std::string& words) {
  if (sqlite3_exec(database_.get(), words.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK)
    throw std::runtime_error(sqlite3_errmsg(database_.get()));
}

void StepDatabase::create() {
  run("CREATE TABLE steps(number INTEGER PRIMARY KEY, words BLOB)");
  run("CREATE TABLE places(place INTEGER PRIMARY KEY, number INTEGER, words BLOB)");
  run("CREATE INDEX numbers ON places(number)");
}

void StepDatabase::take_step(std::uint64_t seed, std::uint64_t number) {
  const Step made = step(seed, number);
  run("BEGIN IMMEDIATE");
  Statement(database_.get(), "INSERT INTO steps VALUES(?1, ?2)")
      .bind(1, number)
      .bind(2, made.words)
      .next();
  for (const std::uint64_t place : made.places)
    Statement(database_.get(), "INSERT OR REPLACE INTO places VALUES(?1, ?2, ?3)")
        .bind(1, place)
        .bind(2, number)
        .bind(3, made.words)
        .next();
  if (number > kKept)
    Statement(database_.get(), "DELETE FROM steps WHERE number <= ?1")
        .bind(1, number - kKept)
        .next();
  run("COMMIT");
}

std::uint64_t StepDatabase::last_step() {
  Statement last(database_.get(), "SELECT max(number) FROM steps");
  return last.next() ? last.number(0) : 0;
}

std::string StepDatabase::check(std::uint64_t seed) {
  Statement integrity(database_.get(), "PRAGMA integrity_check(1)");
  if (!integrity.next()) return "integrity_check says nothing";
  if (std::string words = integrity.words(0); words != "ok") {
    std::replace(words.begin(), words.end(), '\n', ' ');
    return "integrity_check says: " + words;
  }

  const std::uint64_t last = last_step();
  std::uint64_t number = last > kKept ? last - kKept : 0;
  Statement steps(database_.get(), "SELECT number, words FROM steps ORDER BY number");
  while (steps.next())
    if (++number != steps.number(0) || steps.words(1) != step(seed, number).words)
      return "step " + std::to_string(number) + " is missing or wrong";

  std::map<std::uint64_t, std::uint64_t> expected;
  for (std::uint64_t taken = 1; taken <= last; ++taken)
    for (const std::uint64_t place : step(seed, taken).places) expected[place] = taken;
  auto next = expected.begin();
  Statement places(database_.get(), "SELECT place, number, words FROM places ORDER BY place");
  for (; places.next(); ++next)
    if (next == expected.end() || next->first != places.number(0) ||
        next->second != places.number(1) || places.words(2) != step(seed, next->second).words)
      return "place " + std::to_string(places.number(0)) + " is not what step " +
             std::to_string(last) + " leaves";
  return next == expected.end() ? "" : "places are missing";
}

}  // namespace campaign
