// A store's file looked at without being mapped: what `pagetrap store` does.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/store/options.hpp>

namespace pagetrap {
inline namespace v0 {
namespace store {

/// A named root of a file.
struct FileRoot {
  std::string name;
  std::string type;  // mangled
  std::uint64_t address = 0;
  std::uint64_t size_bytes = 0;
};

struct StoreInfo {
  bool clean = false;                // closed as it should be
  bool in_use = false;               // a program has it open: this is its last commit as of now
  unsigned intact_superblocks = 0;   // of two
  std::uint64_t restored_pages = 0;  // of a checkpoint that was interrupted; open() puts them back
  std::uint64_t base = 0;            // address of the data
  std::uint64_t reserve_bytes = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t log_bytes = 0;       // there is room for
  std::uint64_t log_used_bytes = 0;  // of whole records that are not in the data pages
  std::uint64_t log_records = 0;
  std::uint64_t commits = 0;  // ever
  std::uint64_t openings = 0;
  std::uint64_t used_bytes = 0;       // of the data, from the front
  std::uint64_t allocated_bytes = 0;  // of blocks
  std::uint64_t untyped_bytes = 0;    // of them: without a pointer map; they cannot be relocated
  std::uint64_t free_bytes = 0;       // of whole pages that were given back
  std::int64_t created_ns = 0;        // since 1970
  std::vector<FileRoot> roots;
};

class FileView;  // src/store/inspect/file_view.hpp

/// An open file, as of its last commit. Nothing is changed. While a program has the store open it
/// is read as a snapshot is (snapshot.hpp), and the program goes on.
class PAGETRAP_API StoreFile {
 public:
  /// Superblocks, staging area, log, and the heap's header and roots are read and checked.
  static Result<StoreFile> open(const std::string& path,
                                DamagedTail damaged_tail = DamagedTail::refuse);
  ~StoreFile();
  StoreFile(StoreFile&& other) noexcept;
  StoreFile& operator=(StoreFile&& other) noexcept;

  [[nodiscard]] const StoreInfo& info() const noexcept { return info_; }
  /// Every page against its checksum, then the heap's lists. EBADMSG names the place.
  Result<Done> verify();
  /// Bytes of the data, verified. EINVAL outside.
  Result<Done> read(std::uint64_t address, std::span<std::byte> to);

 private:
  StoreFile(std::unique_ptr<FileView> view, StoreInfo info) noexcept;
  std::unique_ptr<FileView> view_;
  StoreInfo info_;
};

/// Writes a store anew, beside its file, which it replaces when all of it is there: the log's
/// commits are in the data pages then, free pages take no room, and the file ends where the data
/// do. Its address stays. Returns what it is now. EBUSY while a program has the store open, or a
/// snapshot of it.
PAGETRAP_API Result<StoreInfo> compact(const std::string& path);

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
