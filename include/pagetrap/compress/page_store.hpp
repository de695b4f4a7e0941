// PageStore: pages in as few bytes as they take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <pagetrap/compress/codec.hpp>
#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace compress {

struct PageStoreState;  // src/compress/page_store.hpp

/// What became of a page.
enum class PageClass : std::uint8_t {
  none,         // not stored
  zero,         // nothing is kept
  same_filled,  // one 64-bit word, repeated
  compressed,
  raw  // it would not be shorter
};

/// Which codec: the common one, or one for pages that are rarely needed.
enum class Tier : std::uint8_t { warm, cold };

/// The handle of a stored page. Trivially copyable; has no owner but the caller, who releases it
/// once.
struct StoredPage {
  std::uint64_t hash = 0;  // of its contents
  std::uint32_t blob = 0;
  PageClass page_class = PageClass::none;
  std::uint8_t codec = 0;
};
static_assert(sizeof(StoredPage) == 16);

struct PageStoreOptions {
  /// Bytes that blobs and their tables may take.
  std::size_t budget_bytes = 64_MiB;
  /// What set_budget() may ever be given: addresses. 0: four times the budget.
  std::size_t capacity_bytes = 0;
  std::unique_ptr<Codec> warm{};  // null: lz4()
  std::unique_ptr<Codec> cold{};  // null: zstd()
  /// Calls that compress or expand at once; more wait. 1 to 64. Each takes memory of its own.
  unsigned workspaces = 16;
  /// Every call is made with asynchronous signals blocked; else the store blocks them in each.
  bool signals_blocked = false;
  /// At most so many bytes of a file for spill(). 0: none.
  std::uint64_t spill_bytes = 0;
  /// That file, which becomes the store's; -1: one without a name in `spill_directory`.
  int spill_file = -1;
  const char* spill_directory = "/var/tmp";
};

struct PageStoreStatistics {
  std::size_t zero_pages = 0;
  std::size_t same_filled_pages = 0;
  std::size_t compressed_pages = 0;
  std::size_t raw_pages = 0;
  std::size_t spilled_pages = 0;  // of all these, in the file

  std::size_t blob_bytes = 0;  // in memory
  std::size_t pool_bytes = 0;  // the same, with holes and tables: what the budget is for
  std::size_t dictionary_bytes = 0;
  std::size_t workspace_bytes = 0;  // at most, of those that were ever used
  std::uint64_t file_bytes = 0;

  std::uint64_t stored = 0;  // calls, since creation
  std::uint64_t loaded = 0;
  std::uint64_t damaged = 0;      // loads that found damage
  std::uint64_t moved_blobs = 0;  // by compaction
  std::uint64_t slid_bytes = 0;   // inside segments, to make room

  [[nodiscard]] std::size_t pages() const noexcept {
    return zero_pages + same_filled_pages + compressed_pages + raw_pages;
  }
  /// Everything in memory.
  [[nodiscard]] std::size_t memory_bytes() const noexcept {
    return pool_bytes + dictionary_bytes + workspace_bytes;
  }
};

/// Threads  any. Calls with one StoredPage: loads at once with anything but its release().
/// Signals  store, load, release, hash and what is marked so are signal-safe, and may be called by
/// a
///          thread that interrupted another's call. A thread in a call touches no memory but the
///          store's own and its arguments, which are not in memory that this store serves.
/// Move-only. A moved-from one is good for destruction only. Pages end with the store.
class PAGETRAP_API PageStore {
 public:
  static Result<PageStore> create(PageStoreOptions options);
  PageStore(PageStore&& other) noexcept;
  PageStore& operator=(PageStore&& other) noexcept;
  ~PageStore();

  /// Of page_size() bytes. Different for each store.
  [[nodiscard]] std::uint64_t hash(std::span<const std::byte> page) const noexcept
      PAGETRAP_SIGNAL_SAFE;
  /// Whether `page` has the contents that are stored.
  [[nodiscard]] bool same(const StoredPage& stored, std::span<const std::byte> page) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return stored.page_class != PageClass::none && stored.hash == hash(page);
  }

  /// Keeps a copy of `page`, page_size() bytes that do not change meanwhile.
  /// Errors  ENOMEM: the budget is used up.
  Result<StoredPage> store(std::span<const std::byte> page, Tier tier = Tier::warm) noexcept
      PAGETRAP_SIGNAL_SAFE;
  /// The same, if the caller has the hash already.
  Result<StoredPage> store_hashed(std::span<const std::byte> page, std::uint64_t hash,
                                  Tier tier = Tier::warm) noexcept PAGETRAP_SIGNAL_SAFE;
  /// Errors  EBADMSG: the stored bytes are damaged; `page` has any contents then. EIO and others of
  ///         pread(2), of a spilled page. ENOENT: there is no such page.
  Result<Done> load(const StoredPage& stored, std::span<std::byte> page) noexcept
      PAGETRAP_SIGNAL_SAFE;
  /// Errors  ENOENT: there is no such page (any more).
  Result<Done> release(const StoredPage& stored) noexcept PAGETRAP_SIGNAL_SAFE;

  /// The page again, by the codec of `tier`; `stored` is still to be released. EINVAL: no codec has
  /// a part in it.
  Result<StoredPage> again(const StoredPage& stored, Tier tier) noexcept PAGETRAP_SIGNAL_SAFE;
  /// To the file; the handle stays good. Errors  ENOSPC, EIO: it is still in memory. EALREADY.
  /// ENOTSUP: there is no file. EINVAL: there is nothing in memory to spill.
  Result<Done> spill(const StoredPage& stored) noexcept PAGETRAP_SIGNAL_SAFE;
  /// Moves at most `blobs` in each shard together. False when there is nothing more to gain.
  bool compact(unsigned blobs) noexcept PAGETRAP_SIGNAL_SAFE;

  /// Pages are stored by a codec from now on that has learnt from `pages`, whole pages one after
  /// the other. Takes seconds; for a thread in the background. Errors  Codec::train's; EINVAL too
  /// if a first dictionary would save less than 15% of their bytes; EAGAIN: too many earlier codecs
  /// still have pages.
  Result<Done> train(std::span<const std::byte> pages, Tier tier = Tier::warm);
  /// The same with a codec that the caller brings. ENOBUFS: it needs more scratch than there is.
  Result<Done> use(std::unique_ptr<Codec> codec, Tier tier = Tier::warm);

  void set_budget(std::size_t bytes) noexcept PAGETRAP_SIGNAL_SAFE;
  /// Everything in memory, for budgets above this one. A few loads.
  [[nodiscard]] std::size_t memory_bytes() const noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] PageStoreStatistics statistics() const;

  /// Around fork(), so that the child finds nothing half done. A store with a file may not be used
  /// in the child: the file is the parent's.
  void lock_for_fork() noexcept PAGETRAP_SIGNAL_SAFE;
  void unlock_after_fork() noexcept PAGETRAP_SIGNAL_SAFE;

 private:
  friend struct PageStoreState;
  explicit PageStore(PageStoreState* state) noexcept : state_(state) {}
  PageStoreState* state_;
};

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
