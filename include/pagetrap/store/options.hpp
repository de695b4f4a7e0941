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

/// What open() does when the store's addresses are in use. Elsewhere its pointers are changed, each
/// page's when it is first touched; the file keeps those of its own place.
enum class RelocationMode : std::uint8_t {
  refuse,  // EEXIST
  typed,   // the words that its pointer map has. EEXIST if it has blocks without one: those that
           // came from the memory_resource, as all of std::pmr, and not from store::Allocator
  // Every aligned word that is an address of the store. A number that looks like one is changed as
  // well, until the store is at its own place again: 2^-30 of random words of 64 bits with 16 GiB
  // of addresses, but also two numbers of 32 bits of which the second is an address's upper half,
  // 0x1400 to 0x1fff. Text never does.
  by_value,
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
  RelocationMode relocation = RelocationMode::typed;
  /// For debugging: a transaction that leaves a pointer to something else of this process in the
  /// store, to a literal, the heap, a stack, a function, a table of virtual functions, is undone
  /// with EFAULT, after lines on stderr that name place, value and what is there. Looks at the
  /// words that have changed, those of memory that was given back again included: at all aligned
  /// ones, of which some may be numbers or text; or, where all blocks are typed, at pointers only.
  bool check_pointers = false;

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
  std::uint64_t untyped_bytes = 0;      // of them: without a pointer map
  bool relocated = false;               // not at the address that its file records
  const char* detector = "";
  const char* durable_by = "";  // what makes commits durable: "system calls", "clwb"
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
