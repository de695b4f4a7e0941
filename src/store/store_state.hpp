// StoreState: an open store.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include <pagetrap/store/store.hpp>

#include "store/check/stray_pointers.hpp"
#include "store/checkpoint.hpp"
#include "store/detect/detector.hpp"
#include "store/disk/disk.hpp"
#include "store/heap/heap.hpp"
#include "store/log/log.hpp"
#include "store/pages/committed_pages.hpp"
#include "store/place.hpp"
#include "store/relocation/forms.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

class StoreState {
 public:
  static Result<std::unique_ptr<StoreState>> open(std::unique_ptr<Disk> disk,
                                                  const StoreOptions& options);
  /// A new store's file: everything but the heap, which open() makes.
  static Outcome format(Disk& disk, const StoreOptions& options,
                        std::size_t staged = kMostStagedPages);
  ~StoreState();
  /// For tests, which have disks of their own.
  static Store as_store(std::unique_ptr<StoreState> state) noexcept;
  static StoreState& of(const Store& store) noexcept { return *store.state_; }
  /// The file is left as a crash would leave it.
  void abandon_file() noexcept;
  StoreState(const StoreState&) = delete;
  StoreState& operator=(const StoreState&) = delete;

  // --- transactions (transaction.cpp)
  Outcome begin();
  /// The end of its record in the log. After an error nothing of the transaction is left.
  Result<std::uint64_t> commit() noexcept;
  void rollback() noexcept;
  /// Until the record that ends at `end` is durable. After an error all that is not has been
  /// undone.
  Outcome wait(std::uint64_t end);
  Outcome wait_as_opened(std::uint64_t end);
  [[nodiscard]] bool in_transaction() const noexcept;
  /// EBADF in a fork()ed child, which has nothing of the store but its descriptors.
  [[nodiscard]] Outcome check_process() const noexcept;
  Outcome declare(const void* address, std::size_t length);
  Outcome prepare(void* address, std::size_t length);
  std::shared_mutex& access() noexcept { return access_; }

  void* allocate(std::size_t size, std::size_t alignment, const TypeMap* type = nullptr);
  void deallocate(void* block, std::size_t size, std::size_t alignment, bool typed) noexcept;
  [[nodiscard]] std::pmr::memory_resource* resource() const noexcept;
  [[nodiscard]] TypedMemory* typed_memory() const noexcept;
  /// Made by the running transaction.
  [[nodiscard]] std::vector<const void*>& typed_objects() noexcept { return typed_objects_; }
  [[nodiscard]] bool relocated() const noexcept { return forms_ != nullptr; }
  [[nodiscard]] Heap& heap() noexcept { return heap_; }
  [[nodiscard]] PageRange range() const noexcept;
  [[nodiscard]] std::size_t used_bytes() const noexcept;

  Outcome checkpoint();
  Outcome sync();
  /// Final checkpoint. The state can only be destroyed after it.
  Outcome close();
  [[nodiscard]] StoreStatistics statistics();
  [[nodiscard]] const Superblock& superblock() const noexcept { return block_; }
  Outcome verify_all();

 private:
  StoreState(std::unique_ptr<Disk> disk, const StoreOptions& options, const Superblock& block)
      : disk_(std::move(disk)),
        options_(options),
        block_(block),
        heap_(nullptr, block.reserve_bytes / kPageBytes) {}

  // open.cpp
  Outcome recover();
  Outcome load_heap();

  // place.cpp
  Outcome map();
  Outcome map_at(std::uint64_t base);
  Outcome map_parts();
  Outcome map_elsewhere();
  Outcome renew_tables();
  void unmap() noexcept;
  Outcome make_detector(std::size_t stored_pages);
  static void announce(void* self, const void* place, std::size_t bytes) noexcept;
  static bool grow(void* self, std::size_t used) noexcept;

  // words.cpp
  Outcome add_retyped();
  Outcome check_pointers();
  const std::vector<std::byte>& payload_for_file();

  // transaction.cpp
  [[nodiscard]] std::byte* live(PageNumber page) const noexcept {
    return base_ + std::size_t{page} * kPageBytes;
  }
  Outcome check_usable() const;
  std::shared_lock<std::shared_mutex> read_unless_writing();
  Outcome find_strays();
  Outcome compare();
  Outcome prepare_log();
  Outcome begin_epoch();
  Outcome grow_file();
  std::uint64_t apply();
  Outcome put_back(std::span<const PageNumber> pages);
  void undo_what_is_not_durable();
  Outcome collect_written() noexcept;
  Result<std::uint64_t> try_commit();
  void remember_undo();
  void add_open(std::vector<PageNumber>& pages) const;
  void abandon() noexcept;
  void leave() noexcept;

  std::unique_ptr<Disk> disk_;
  const StoreOptions options_;
  Superblock block_;           // as it was opened
  std::byte* base_ = nullptr;  // of the data, here
  Heap heap_;
  std::unique_ptr<Log> log_;
  std::unique_ptr<CommittedPages> committed_;
  Tables tables_;                 // for those who look at words, else empty
  std::unique_ptr<Forms> forms_;  // only if it is not where the file says
  sys::Mapping own_;              // in front of the data
  sys::Mapping hot_;              // the header's pages
  std::unique_ptr<Detector> detector_;
  std::unique_ptr<Checkpoint> checkpoint_;
  PendingRuns pending_;
  std::size_t stored_pages_ = 0;  // that the file or the log knows
  unsigned process_ = 0;          // process_generation()
  std::atomic<bool> closed_{false};
  bool was_clean_ = false;
  bool epoch_begun_ = false;  // GUARDED_BY(access_)

  std::shared_mutex access_;                  // exclusive: a transaction; shared: readers
  std::atomic<const void*> writer_{nullptr};  // its thread
  Outcome broken_{};               // GUARDED_BY(access_), as all below: why nothing can be written
  std::vector<PageNumber> pages_;  // collected
  std::vector<std::uint8_t> changed_;
  std::vector<std::byte> payload_;
  std::vector<std::byte> file_payload_;  // the same, as the log has it
  Retyped retyped_;
  std::vector<const void*> typed_objects_;
  Outcome refusal_{};             // why the last growth was
  StrayPointers stray_pointers_;  // for check_pointers()
  struct Undo {
    std::uint64_t end = 0;
    std::vector<std::byte> payload;  // what was there before
  };
  std::deque<Undo> undo_;
  std::size_t grown_pages_ = 0;
  std::atomic<std::uint64_t> commits_{0};  // of the store, ever
  StoreStatistics statistics_;

  // The thread that makes checkpoints.
  void start_checkpointer();
  void stop_checkpointer() noexcept;
  std::mutex wish_lock_;
  // A child cannot destroy one that its parent's thread waits for.
  std::unique_ptr<std::condition_variable> wish_ = std::make_unique<std::condition_variable>();
  bool wanted_ = false;  // GUARDED_BY(wish_lock_), as the next
  bool stopping_ = false;
  std::thread checkpointer_;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
