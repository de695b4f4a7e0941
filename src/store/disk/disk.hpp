// Disk: the one narrow door through which a store reads and writes its file. The real one is
// FileDisk; the tests have one that records, from whose records every state that a power failure
// may leave is made, and one that fails.
//
// What a disk promises, and what the protocol of the store relies on:
//   write()          may be on the medium after a crash, in whole or in part (pieces of 512 bytes),
//                    before or after any other write that no sync() has followed.
//   write_durably()  is on the medium when it returns; says nothing about earlier write()s.
//   sync()           every write() that returned before it was called is on the medium.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include <pagetrap/core/config.hpp>

#include "store/disk/own_files.hpp"
#include "store/outcome.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

/// What others know a disk's file by.
struct SharedFile {
  const OwnFile& descriptor;  // the one that has the locks
  std::string path;           // canonical
};

class Disk {
 public:
  virtual ~Disk() = default;
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  /// All of `to`, or an error; EIO where the file ends before.
  virtual Outcome read(std::span<std::byte> to, std::uint64_t offset) noexcept
      PAGETRAP_SIGNAL_SAFE = 0;
  /// Addresses, lengths and offsets of what is written are multiples of unit().
  virtual Outcome write(std::span<const std::byte> from, std::uint64_t offset) noexcept = 0;
  virtual Outcome write_durably(std::span<const std::byte> from, std::uint64_t offset) noexcept = 0;
  virtual Outcome sync() noexcept = 0;
  /// Makes the file `size` bytes long, with room on the medium, reading as zeroes. Never shorter.
  /// For good when it returns: superblocks and records count on it.
  virtual Outcome extend(std::uint64_t size) noexcept = 0;
  [[nodiscard]] virtual std::uint64_t size() const noexcept = 0;
  /// The smallest write: 512 or 4096.
  [[nodiscard]] virtual std::size_t unit() const noexcept = 0;
  /// Null: it is no file that snapshots of other processes could read.
  [[nodiscard]] virtual const SharedFile* shared() const noexcept { return nullptr; }
  /// What makes a write durable, for people.
  [[nodiscard]] virtual const char* durable_by() const noexcept { return "system calls"; }

 protected:
  Disk() = default;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
