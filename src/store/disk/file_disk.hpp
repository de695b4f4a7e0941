// FileDisk: a store's file. Writes go past the page cache where the file system allows that, reads
// of pages through it.
#pragma once

#include <memory>
#include <string>

#include "store/disk/disk.hpp"
#include "store/disk/own_files.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

enum class FileUse : std::uint8_t {
  existing,   // ENOENT if there is none
  create,     // EEXIST if there is one
  read_only,  // beside other readers; every write is EBADF
  shared,     // the same, and beside a writer: what is read may be half written
};

class FileDisk final : public Disk {
 public:
  /// Takes the file's lock (but for `shared`): EBUSY if another store, of whatever process, has it.
  static Result<std::unique_ptr<FileDisk>> open(const std::string& path, FileUse use);

  ~FileDisk() override;

  /// Of a new file that will replace `path`: nobody else's, not of one that a crash left either.
  static std::string name_beside(const std::string& path);

  Outcome read(std::span<std::byte> to, std::uint64_t offset) noexcept
      PAGETRAP_SIGNAL_SAFE override;
  Outcome write(std::span<const std::byte> from, std::uint64_t offset) noexcept override;
  Outcome write_durably(std::span<const std::byte> from, std::uint64_t offset) noexcept override;
  Outcome sync() noexcept override;
  Outcome extend(std::uint64_t size) noexcept override;
  [[nodiscard]] std::uint64_t size() const noexcept override;
  [[nodiscard]] std::size_t unit() const noexcept override { return unit_; }
  [[nodiscard]] const SharedFile* shared() const noexcept override { return &shared_; }
  /// Room on the medium for all of it.
  Outcome fill_holes() noexcept;
  /// Past the page cache?
  [[nodiscard]] bool direct() const noexcept { return direct_; }

 private:
  FileDisk() = default;
  Outcome open_for_writing(const std::string& path);
  Outcome extend_from(std::uint64_t now, std::uint64_t size) noexcept;
  OwnFile cached_;   // reads; holds the locks
  OwnFile writer_;   // O_DIRECT where possible
  OwnFile through_;  // and O_DSYNC
  SharedFile shared_{cached_, {}};
  pid_t process_ = -1;  // whose locks they are
  std::size_t unit_ = 4096;
  bool direct_ = false;
};

/// Gives the new file `from` its name `to`, for good. EEXIST: somebody else was first.
Outcome publish(const std::string& from, const std::string& to) noexcept;

/// So that a file's name survives a power failure too.
Outcome sync_directory_of(const std::string& path) noexcept;

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
