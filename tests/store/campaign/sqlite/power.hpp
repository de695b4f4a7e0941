// Power failures under SQLite: a control of the campaign, whose outcome its manual tells. By the
// same states and the same question as the store it must come through with synchronous=FULL, must
// lose acknowledged transactions but nothing else with a write-ahead log and NORMAL, and may keep
// nothing with OFF.
#pragma once

#include <cstdint>
#include <string>

#include "store/disks.hpp"

namespace campaign {

enum class Journal : std::uint8_t { wal, rollback };
enum class Synchronous : std::uint8_t { off, normal, full };
const char* name(Synchronous synchronous) noexcept;

struct SqlitePowerOptions {
  std::uint64_t states = 1000;
  std::uint64_t seed = 1;
  std::uint64_t steps = 150;  // recorded at a time
  pagetrap::store::Tearing tearing = pagetrap::store::Tearing::sectors;
  Journal journal = Journal::wal;
  Synchronous synchronous = Synchronous::full;
};

struct SqlitePowerResult {
  std::uint64_t states = 0;
  std::uint64_t recordings = 0;
  std::uint64_t lost = 0;     // sound, but an acknowledged step is not there
  std::uint64_t corrupt = 0;  // SQLite says so, or it is not what any number of steps leaves
  std::uint64_t ahead = 0;    // sound, and steps are there that were not acknowledged yet
  std::string first_wrong{};
};

SqlitePowerResult fail_power_of_sqlite(const SqlitePowerOptions& options);

/// `store_campaign sqlite`. Without SQLite it says so, and returns kWithoutSqlite.
int sqlite_controls(std::uint64_t states, std::uint64_t seed);
inline constexpr int kWithoutSqlite = 3;

}  // namespace campaign
