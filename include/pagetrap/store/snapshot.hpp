// Snapshot: a store as of one commit, read by another process while its writer goes on.
//
//   auto snapshot = pagetrap::store::Snapshot::open("words.store").value();
//   const auto* words = snapshot.find<WordMap>("words").value();  // pointers are good, as ever
//   snapshot.refresh().value();                                   // the newest commit, same
//   addresses
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>
#include <pagetrap/store/root.hpp>
#include <pagetrap/store/store.hpp>

namespace pagetrap {
inline namespace v0 {
namespace store {

class SnapshotState;  // src/store/snapshot/snapshot_state.hpp

struct SnapshotOptions {
  /// Read and verify all pages before open() returns; otherwise each is when it is first touched,
  /// and what cannot be read then is a SIGBUS (SIGSEGV without userfaultfd), after a line on stderr
  /// that names the place.
  bool verify_all = false;
};

/// Owns a mapping of a store's pages at their address, read-only. Move-only. Needs permission to
/// read the file and to search its directory, no more; with or without a writer, which neither
/// waits for it nor makes it wait. A process that ends, however it does, leaves nothing behind.
///
/// What it shows is one whole commit: the last that was in the file when it was taken, with
/// Durability::none and commit_async() maybe one that is not durable yet. Pages come from the file
/// when they are touched. As long as there are snapshots a writer keeps what it overwrites, in
/// PATH.history beside the store: at most all pages once for each time that one was taken while
/// others were in use. Where it has no room for that, pages of snapshots taken until then can no
/// longer be had: a SIGBUS as above, never wrong contents; refresh() mends it.
///
/// Threads  Any number may read, none may during refresh() and the end.
/// Signals  Pages are loaded in the thread that touches them. System calls that read from pages
///          that are not there yet fail with EFAULT: load() first.
/// fork()   The child does not have it: nothing is mapped there.
class PAGETRAP_API Snapshot {
 public:
  /// Takes the newest commit. The time is that of reading the log.
  /// Errors  EEXIST: its addresses are in use; EBADMSG: damaged; ENOTSUP: the file has several hard
  ///         links; EAGAIN: for ten seconds no two looks found the same checkpoint.
  static Result<Snapshot> open(const std::string& path, const SnapshotOptions& options = {});
  ~Snapshot();
  Snapshot(Snapshot&& other) noexcept;
  Snapshot& operator=(Snapshot&& other) noexcept;
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  /// The object called `name`; null if there is none. EPROTOTYPE: it is another type or layout.
  template <class T>
  Result<const T*> find(std::string_view name) const {
    const Result<void*> there = find_root(name, type_mark<T>());
    if (!there) return there.error();
    return static_cast<const T*>(*there);
  }
  [[nodiscard]] std::vector<Root> roots() const;

  /// Takes the newest commit instead; whether there was a newer one. Pointers into the snapshot
  /// stay addresses of the store, but what is there may have become anything: find() again.
  /// Contents of pages that have not changed stay. After an error the old one is still there.
  Result<bool> refresh();

  /// Which commit it is: how many there had been.
  [[nodiscard]] std::uint64_t commits() const noexcept;
  [[nodiscard]] bool contains(const void* address) const noexcept {
    return range().contains(address);
  }
  /// All addresses that the store may ever use.
  [[nodiscard]] PageRange range() const noexcept;
  /// Has the pages of `length` bytes at `address` loaded, verified. EINVAL outside.
  Result<Done> load(const void* address, std::size_t length) const;

 private:
  explicit Snapshot(std::unique_ptr<SnapshotState> state) noexcept;
  [[nodiscard]] Result<void*> find_root(std::string_view name, const TypeMark& mark) const;
  std::unique_ptr<SnapshotState> state_;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
