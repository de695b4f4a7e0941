// The files of one SQLite database, in memory: each at its own place of one disk, from whose record
// PowerFailure makes the states.
//
// A flush is of one file. Lengths and deletions are for good at once and in order, as if a journal
// kept them: what a power failure can do here, it does to contents only.
#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "store/disks.hpp"

namespace campaign {

enum class File : std::uint8_t { database, journal, log };
inline constexpr std::size_t kFiles = 3;

/// By File; -1: there is none.
using Lengths = std::array<std::int64_t, kFiles>;

struct Medium {
  Medium();
  pagetrap::store::Bytes contents;
  Lengths lengths;
};

class RecordedFiles {
 public:
  explicit RecordedFiles(Medium before);

  [[nodiscard]] bool exists(File file) const { return length(file) >= 0; }
  [[nodiscard]] std::int64_t length(File file) const { return lengths_[index(file)]; }
  /// Where the file ends before, the rest is zeroes, and false.
  bool read(File file, std::span<std::byte> to, std::uint64_t offset);
  /// False: it has no more room.
  bool write(File file, std::span<const std::byte> from, std::uint64_t offset);
  void flush(File file);
  void create(File file) { set_length(file, 0); }
  void truncate(File file, std::int64_t length);
  void remove(File file) { truncate(file, -1); }

  [[nodiscard]] pagetrap::store::Record& record() { return record_; }
  [[nodiscard]] Medium medium() const;
  /// The medium of a state of what was recorded.
  [[nodiscard]] Medium medium(pagetrap::store::PowerFailure::State state) const;

 private:
  static std::size_t index(File file) { return static_cast<std::size_t>(file); }
  void set_length(File file, std::int64_t length);

  pagetrap::store::Record record_;
  pagetrap::store::RecordingDisk disk_;
  Lengths lengths_;
  std::vector<std::pair<std::size_t, Lengths>> history_;   // after so many operations
  std::array<std::set<std::uint64_t>, kFiles> unflushed_;  // sectors of the disk
};

}  // namespace campaign
