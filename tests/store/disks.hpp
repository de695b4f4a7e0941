// Disks for tests. MemoryDisk is a file that is not there; RecordingDisk remembers what was written
// and flushed, so that PowerFailure can make every state that a power failure may leave;
// FailingDisk fails at a chosen operation.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "store/disk/disk.hpp"

namespace pagetrap::store {

using Bytes = std::vector<std::byte>;

class MemoryDisk : public Disk {
 public:
  explicit MemoryDisk(Bytes contents = {}, std::size_t unit = 512)
      : contents_(std::move(contents)), unit_(unit) {}
  Outcome read(std::span<std::byte> to, std::uint64_t offset) noexcept
      PAGETRAP_SIGNAL_SAFE override;
  Outcome write(std::span<const std::byte> from, std::uint64_t offset) noexcept override;
  Outcome write_durably(std::span<const std::byte> from, std::uint64_t offset) noexcept override;
  Outcome sync() noexcept override { return kDone; }
  Outcome extend(std::uint64_t size) noexcept override;
  [[nodiscard]] std::uint64_t size() const noexcept override { return contents_.size(); }
  [[nodiscard]] std::size_t unit() const noexcept override { return unit_; }
  [[nodiscard]] const Bytes& contents() const noexcept { return contents_; }

 private:
  std::mutex lock_;
  Bytes contents_;
  std::size_t unit_;
};

/// One thing that a store did to its disk, or was told ("acknowledged").
struct Operation {
  enum class Kind : std::uint8_t { write, write_durably, sync, extend, acknowledged };
  Kind kind = Kind::sync;
  std::uint64_t offset = 0;  // extend: the new length; acknowledged: what was
  Bytes bytes{};
};

/// Several disks may follow one another on one record: a store that is opened again.
struct Record {
  std::mutex lock;
  std::vector<Operation> operations;
  void add(Operation operation) {
    const std::lock_guard guard(lock);
    operations.push_back(std::move(operation));
  }
  void acknowledge(std::uint64_t number) { add({Operation::Kind::acknowledged, number, {}}); }
};

class RecordingDisk final : public MemoryDisk {
 public:
  RecordingDisk(Record& record, Bytes contents, std::size_t unit = 512)
      : MemoryDisk(std::move(contents), unit), record_(record) {}
  Outcome write(std::span<const std::byte> from, std::uint64_t offset) noexcept override;
  Outcome write_durably(std::span<const std::byte> from, std::uint64_t offset) noexcept override;
  Outcome sync() noexcept override;
  Outcome extend(std::uint64_t size) noexcept override;

 private:
  Record& record_;
};

/// Protocol bugs for the negative controls: what a disk could be told wrongly, or not be told.
enum class Bug : std::uint8_t {
  none,
  no_log_flush,          // log records are written and acknowledged without a flush
  no_staging_flush,      // pages go to their places before they are safe in the staging area
  no_page_flush,         // the superblock is written before the pages are in their places
  superblock_first,      // ... and even before they are written
  no_staging,            // pages go to their places only
  one_superblock_flush,  // both slots at once
};

/// Where a store's parts are, to know what a write is about.
struct Places {
  std::uint64_t staging = 0;
  std::uint64_t log = 0;
  std::uint64_t data = 0;
};

/// What the disk would have been told had the store had `bug`.
std::vector<Operation> with_bug(const std::vector<Operation>& operations, const Places& places,
                                Bug bug);

/// What writes that no flush has followed may look like.
enum class Tearing : std::uint8_t {
  none,     // each write is there or not
  sectors,  // each 512 bytes of it
  words,    // each 16 bytes: no disk that we know
  garbage,  // each 512 bytes is there, not there, or rubbish
};

/// A source of random numbers, by reference: each call must go on where the last one was.
class RandomWords {
 public:
  template <class Generator>
  explicit RandomWords(Generator& generator) : next_([&generator] { return generator(); }) {}
  std::uint64_t operator()() const { return next_(); }

 private:
  std::function<std::uint64_t()> next_;
};

/// States after a power failure in the middle of what was recorded.
class PowerFailure {
 public:
  PowerFailure(const std::vector<Operation>& operations, Bytes before);
  struct State {
    Bytes contents;
    std::uint64_t acknowledged = 0;  // the last that was
    std::size_t at = 0;              // operations done
  };
  /// One of them, chosen by `random`.
  State choose(const RandomWords& random, Tearing tearing) const;
  /// At operation `at`; each write since the last flush is kept with `chance` of 256.
  State at(std::size_t at, unsigned chance, const RandomWords& random, Tearing tearing) const;

 private:
  const std::vector<Operation>& operations_;
  Bytes before_;
  std::vector<std::size_t> flushes_;  // where a checkpoint writes or flushes: half of all states
};

/// Passes everything on, but fails as asked.
class FailingDisk final : public MemoryDisk {
 public:
  explicit FailingDisk(Bytes contents) : MemoryDisk(std::move(contents)) {}
  /// The `skip`+1st modifying operation from now on fails with `error`, after doing half of it if
  /// `half`; with `forever` so do all that follow.
  void fail(int error, std::uint64_t skip, bool half, bool forever);
  void heal() { error_ = 0; }
  void fail_growth(int error) { growth_error_ = error; }
  [[nodiscard]] bool failed_once() const { return failed_once_; }
  [[nodiscard]] std::uint64_t operations() const { return count_; }
  Outcome write(std::span<const std::byte> from, std::uint64_t offset) noexcept override;
  Outcome write_durably(std::span<const std::byte> from, std::uint64_t offset) noexcept override;
  Outcome sync() noexcept override;
  Outcome extend(std::uint64_t size) noexcept override;

 private:
  int next();
  std::mutex count_lock_;
  int error_ = 0;
  std::uint64_t skip_ = 0;
  bool half_ = false;
  bool forever_ = false;
  bool failed_once_ = false;
  int growth_error_ = 0;
  std::uint64_t count_ = 0;
};

}  // namespace pagetrap::store
