// MappedDisk: a file in byte-addressable memory (DAX). What is written is copied to a shared
// mapping and its cache lines are written back; no system call makes it durable, nor is one needed.
//
// On a file that is in the page cache the same code runs, and nothing that it does survives a power
// failure: for exercise and measurement.
#pragma once

#include <memory>
#include <mutex>

#include <pagetrap/store/options.hpp>

#include "store/disk/file_disk.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

class MappedDisk final : public Disk {
 public:
  /// `most`: bytes that the file may ever have. Errors  ENOTSUP: the file is not in such memory
  /// and `must_be_dax`, or the processor has no instruction; ENOSPC: for the file's holes.
  static Result<std::unique_ptr<MappedDisk>> create(std::unique_ptr<FileDisk>& file,
                                                    std::uint64_t most, bool must_be_dax);

  // Through the file: where it ends before, that is an error and no SIGBUS.
  Outcome read(std::span<std::byte> to, std::uint64_t offset) noexcept
      PAGETRAP_SIGNAL_SAFE override;
  Outcome write(std::span<const std::byte> from, std::uint64_t offset) noexcept override;
  Outcome write_durably(std::span<const std::byte> from, std::uint64_t offset) noexcept override {
    return write(from, offset);
  }
  // A fence orders what its own thread has written back, and it may not be the one that wrote: so
  // write() has done it.
  Outcome sync() noexcept override { return kDone; }
  Outcome extend(std::uint64_t size) noexcept override;
  [[nodiscard]] std::uint64_t size() const noexcept override { return file_->size(); }
  [[nodiscard]] std::size_t unit() const noexcept override { return file_->unit(); }
  [[nodiscard]] const SharedFile* shared() const noexcept override { return file_->shared(); }
  [[nodiscard]] const char* durable_by() const noexcept override;

 private:
  MappedDisk() = default;
  Outcome map_to(std::uint64_t size) noexcept;

  std::unique_ptr<FileDisk> file_;
  sys::Mapping addresses_;
  int flags_ = 0;  // of the mapping
  std::mutex growing_;
  std::uint64_t mapped_ = 0;  // GUARDED_BY(growing_)
};

/// `file` by what `persistence` asks for.
Result<std::unique_ptr<Disk>> with_persistence(std::unique_ptr<FileDisk> file,
                                               Persistence persistence);

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
