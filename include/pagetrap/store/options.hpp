// How a store is opened, and what it tells about itself.
#pragma once

#include <cstddef>
#include <cstdint>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {
namespace store {

/// How the pages that a transaction writes are found. docs/design/store.md, "Detection".
enum class Detect : std::uint8_t {
  best,   // traps, where userfaultfd can have them
  traps,  // the first write to a page faults in its thread. System calls that write to a page that
          // the transaction has not written yet fail with EFAULT: Store::prepare() first
  ring,   // the kernel resolves the faults, a ring tells the addresses. System calls are seen
  scan,   // the kernel resolves the faults, a scan of all pages finds them: for bulk changes
  barrier,  // nobody looks: the program says Transaction::write() BEFORE each change, or loses it
};
PAGETRAP_API const char* name(Detect detect) noexcept;

/// When a commit returns.
enum class Durability : std::uint8_t {
  full,  // when it is on the medium: one write and one flush, shared with other threads' commits
  none,  // at once. After a crash some of the last commits may be missing, a whole tail of them
};

/// What makes the file's contents durable.
enum class Persistence : std::uint8_t {
  automatic,     // cache lines, where the file is byte-addressable memory (DAX: the file system
                 // grants MAP_SYNC); else system calls
  system_calls,  // writes past the page cache, and flushes
  cache_lines,  // a shared mapping whose cache lines are written back. On an ordinary file the same
                // code runs, and commits do NOT survive a power failure, which may leave a file
                // that cannot be opened: for exercise and measurement
};

/// A sector that is neither old nor new where the log may end.
enum class DamagedTail : std::uint8_t {
  refuse,   // to open: it may have been a commit
  discard,  // take it for the end of the log, unless a later record knows that it was durable. For
            // media that leave garbage in sectors that were being written
};

struct StoreOptions {
  bool create = true;  // if there is no such file
  Detect detect = Detect::best;
  Durability durability = Durability::full;
  DamagedTail damaged_tail = DamagedTail::refuse;
  Persistence persistence = Persistence::automatic;
  /// Writes outside of transactions that can only be found later, those to pages that stay open and
  /// all of `ring` and `scan`, are looked for before each transaction, put back and reported.
  bool check_strays = true;
  /// Read and verify all pages before open() returns; otherwise each is when it is first touched,
  /// and what cannot be read then is a SIGBUS, after a line on stderr that names the place.
  bool verify_all = false;

  // For a new store, and fixed then.
  std::size_t reserve_bytes = 16_GiB;  // of addresses: what it can grow to. At most 1 TiB
  std::size_t log_bytes = 64_MiB;      // at least 128 KiB. A transaction's changes: half of it
  void* address = nullptr;  // of the data; nullptr: by chance, so that stores seldom meet
};

struct StoreStatistics {
  std::uint64_t commits = 0;  // of this process, that changed something
  std::uint64_t aborts = 0;
  std::uint64_t pages_compared = 0;
  std::uint64_t pages_changed = 0;
  std::uint64_t payload_bytes = 0;  // of log records, before they are made sectors
  std::uint64_t log_bytes = 0;      // written
  std::uint64_t log_flushes = 0;
  std::uint64_t strays = 0;
  std::uint64_t checkpoints = 0;
  std::uint64_t checkpoint_pages = 0;
  std::uint64_t checkpoint_bytes = 0;   // written, staging area included
  std::uint64_t recovered_commits = 0;  // from the log, by open()
  std::uint64_t image_bytes = 0;        // memory for committed contents of changed pages
  std::uint64_t used_bytes = 0;         // of the data, from the front
  std::uint64_t allocated_bytes = 0;    // of blocks
  const char* detector = "";
  const char* durable_by = "";  // what makes commits durable: "system calls", "clwb"
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
