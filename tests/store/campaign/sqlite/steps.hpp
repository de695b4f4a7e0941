// Numbered transactions in an SQLite database, and what must be there after each.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "store/campaign/sqlite/power.hpp"

struct sqlite3;

namespace campaign {

/// A connection to the files that are mounted. Throws std::runtime_error when SQLite does not do
/// what it is told.
class StepDatabase {
 public:
  StepDatabase(Journal journal, Synchronous synchronous);
  void create();
  /// Step `number` of the run `seed`, in a transaction; it is acknowledged when this returns.
  void take_step(std::uint64_t seed, std::uint64_t number);
  /// The last that is there; 0: none.
  std::uint64_t last_step();
  /// "" if all of it is sound and exactly what the steps up to the last one leave; else what is
  /// wrong.
  std::string check(std::uint64_t seed);

 private:
  void run(const std::string& words);
  struct Close {
    void operator()(sqlite3* database) const;
  };
  std::unique_ptr<sqlite3, Close> database_;
};

}  // namespace campaign
