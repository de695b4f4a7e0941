// store_campaign sqlite.
#include <sqlite3.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <string>
#include <utility>

#include "store/campaign/sqlite/power.hpp"

namespace campaign {

using pagetrap::store::Tearing;

namespace {

constexpr const char* kTearings[] = {"whole writes", "512 bytes", "16 bytes", "512 bytes, rubbish"};
constexpr const char* kJournals[] = {"WAL", "DELETE"};

/// "" if that is how it must be.
const char* verdict(Synchronous synchronous, const SqlitePowerResult& result) {
  switch (synchronous) {
    case Synchronous::full:
      return result.lost + result.corrupt == 0 ? "" : "; NOTHING MAY BE";
    case Synchronous::normal:
      if (result.corrupt != 0) return "; NONE MAY BE CORRUPT";
      return result.lost != 0 ? "" : "; NONE FOUND";
    case Synchronous::off:
      return result.lost + result.corrupt != 0 ? "" : "; NONE FOUND";
  }
  return "";
}

bool control(const SqlitePowerOptions& options) {
  const SqlitePowerResult result = fail_power_of_sqlite(options);
  const std::string wrong = verdict(options.synchronous, result);
  std::printf("sqlite     %6" PRIu64 " states of %" PRIu64
              " runs, torn at %s, journal %s, synchronous=%s: %" PRIu64
              " lost acknowledged steps, %" PRIu64 " corrupt%s\n",
              result.states, result.recordings, kTearings[static_cast<int>(options.tearing)],
              kJournals[static_cast<int>(options.journal)], name(options.synchronous), result.lost,
              result.corrupt, wrong.c_str());
  if (!wrong.empty() && !result.first_wrong.empty())
    std::printf("           the first: %s\n", result.first_wrong.c_str());
  std::fflush(stdout);
  return wrong.empty();
}

}  // namespace

int sqlite_controls(std::uint64_t states, std::uint64_t seed) {
  std::printf("sqlite     version %s, seed %" PRIu64 "\n", sqlite3_libversion(), seed);
  bool as_it_must = true;
  constexpr std::pair<Journal, Synchronous> kModes[] = {
      {Journal::wal, Synchronous::full},     {Journal::wal, Synchronous::normal},
      {Journal::wal, Synchronous::off},      {Journal::rollback, Synchronous::full},
      {Journal::rollback, Synchronous::off},
  };
  for (const auto& [journal, synchronous] : kModes) {
    for (const Tearing tearing :
         {Tearing::sectors, Tearing::none, Tearing::words, Tearing::garbage}) {
      SqlitePowerOptions options;
      // Most of them with what disks do, as in `power`. Too few may find nothing.
      options.states =
          std::max<std::uint64_t>(tearing == Tearing::sectors ? states : states / 4, 200);
      options.seed = seed + static_cast<std::uint64_t>(tearing);
      options.tearing = tearing;
      options.journal = journal;
      options.synchronous = synchronous;
      as_it_must = control(options) && as_it_must;
    }
  }
  return as_it_must ? 0 : 1;
}

}  // namespace campaign
