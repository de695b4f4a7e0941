// A trace file (PAGETRAP_TRACE_FILE), of a program that has ended or still runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <pagetrap/core/result.hpp>
#include <pagetrap/trace/trace.hpp>

namespace pagetrap::tool {

struct TraceFile {
  std::uint64_t process = 0;         // who wrote it
  std::uint64_t recorded = 0;        // events, ever
  std::uint64_t overwritten = 0;     // of those, by later ones
  std::uint64_t unfinished = 0;      // of those, begun and not there: a writer is at it, or died
  std::vector<trace::Event> events;  // in the order of their sequence numbers
};

/// Errors  those of open(2) and read(2); EBADMSG: no trace file, cut short, or torn: the position
///         tells where; EPROTO: another version of the format.
Result<TraceFile> read_trace(const std::string& path);

}  // namespace pagetrap::tool
