// Engine: a guard heap. Heap owns one; a preload shim has one in static storage.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <pagetrap/guard/heap.hpp>
#include <pagetrap/guard/problem.hpp>

#include "guard/cold/c_library.hpp"
#include "guard/cold/cold_pages.hpp"
#include "guard/engine/guard_pages.hpp"
#include "guard/engine/slot.hpp"
#include "guard/engine/thread_cache.hpp"
#include "guard/report/finding.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

class Engine {
 public:
  static Result<Engine*> create_at(void* place, const HeapOptions& options) noexcept;
  void end() noexcept;

  // allocate.cpp
  void* allocate(std::size_t size, std::size_t alignment, Family family, bool zeroed,
                 const void* frame) noexcept;
  // release.cpp
  void release(void* block, Family family, std::size_t size, const void* frame) noexcept;
  void* reallocate(void* block, std::size_t size, const void* frame) noexcept;
  [[nodiscard]] std::size_t usable_size(const void* block) const noexcept;

  // lookup.cpp
  [[nodiscard]] bool contains(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE {
    return layout_.contains(address);
  }
  /// What an access to `address`, in this heap, did wrong. False: nothing, and it may be done
  /// again.
  bool explain(const void* address, Finding& finding) noexcept PAGETRAP_SIGNAL_SAFE;
  /// After a report: the access goes on. Until the heap is next used: then the page is closed
  /// again.
  bool let_through(const void* address) noexcept PAGETRAP_SIGNAL_SAFE;
  void check_buffer(const void* from, std::size_t size, bool write, const char* call,
                    const void* frame) noexcept;

  [[nodiscard]] HeapStatistics statistics() const noexcept;
  void descriptors(int (&kept)[2]) const noexcept {
    kept[0] = pages_.descriptor();
    kept[1] = frames_.descriptor();
  }
  [[nodiscard]] const HeapOptions& options() const noexcept { return options_; }

  // fork.cpp
  void lock_for_fork() noexcept;
  void unlock_after_fork() noexcept;
  void in_child() noexcept;
  void give_back_cache(ThreadCache* cache) noexcept;

 private:
  struct Object;  // a slot and where its object is
  Engine() = default;
  Result<Done> begin(const HeapOptions& options) noexcept;
  ThreadCache* cache() noexcept;
  ThreadCache* new_cache() noexcept;
  void* fallback(std::size_t size, std::size_t alignment, bool zeroed) noexcept;

  // chunks.cpp
  bool next_chunk(SizeClass k, ThreadCache::Cursor& cursor) noexcept;
  bool fresh_slot(ThreadCache& cache, SizeClass k, std::size_t& number) noexcept;
  void slot_died(SizeClass k, std::uintptr_t start) noexcept;
  void remember_dead(std::size_t chunk, std::size_t how_many) noexcept;
  void forget_chunk(std::size_t chunk) noexcept;
  [[nodiscard]] int retired_neighbours(std::size_t chunk) const noexcept;

  void retire_view(std::size_t chunk) noexcept;

  // alias/alias.cpp
  [[nodiscard]] View& view_of(std::size_t slot) const noexcept;
  Extent* extent_with_room(ViewCursor& cursor, unsigned unit) noexcept;
  bool open_view(ThreadCache& cache, unsigned unit) noexcept;
  /// A block of a frame that it shares: the slot that sees it, and where it begins there.
  bool take_shared(ThreadCache& cache, std::size_t size, std::size_t& number,
                   std::size_t& offset) noexcept;
  void close_shared(ThreadCache* cache, std::size_t number, std::size_t offset) noexcept;
  void revoke(const Pending* dead, std::size_t count) noexcept;
  void view_lost_one(View& view, std::size_t slot) noexcept;
  void views_in_child() noexcept;

  // cold/packing.cpp
  void pack_some() noexcept;
  bool begin_serving() noexcept;
  bool pack_one(std::size_t number, std::size_t turn) noexcept;
  bool put_back(PageRange staged, PageRange page) noexcept;
  [[nodiscard]] PageRange staging_page(std::size_t turn) const noexcept;
  // cold/serving.cpp
  bool start_thread() noexcept;
  void stop_thread() noexcept;
  void serve() noexcept;
  void serve_fault(const std::byte* address) noexcept;
  bool bring_back(const SlotPlace& place, PageRange page) noexcept;

  [[nodiscard]] Slot& slot(SizeClass k, std::size_t number) const noexcept PAGETRAP_SIGNAL_SAFE {
    return slots_[layout_.table_index(k, number)];
  }
  /// The pages that an object of the slot has open.
  static PageRange pages_of(std::uintptr_t start, std::size_t offset, std::size_t size) noexcept
      PAGETRAP_SIGNAL_SAFE;
  /// Where known bytes may stand around an object: its pages, or its share of a frame.
  struct Surroundings {
    std::byte* begin;
    std::byte* end;
  };
  [[nodiscard]] Surroundings surroundings(SizeClass k, std::byte* object, PageRange pages,
                                          std::size_t size) const noexcept;
  void plant_canaries(std::byte* object, std::size_t size, Surroundings all) noexcept;
  std::byte* damaged_canary(std::byte* object, std::size_t size, Surroundings all) noexcept;
  void close_slot(ThreadCache* cache, const SlotPlace& place, PageRange pages) noexcept;
  bool about(const SlotPlace& place, Finding& finding) const noexcept PAGETRAP_SIGNAL_SAFE;
  void nearest(const SlotPlace& place, const void* address, Finding& finding) const noexcept
      PAGETRAP_SIGNAL_SAFE;
  void close_again() noexcept;
  /// Reports, and returns where the process goes on.
  void tell(Finding& finding, const void* frame) noexcept;
  /// Whether `block` may be freed or moved now: it is live, and its start.
  bool releasable(void* block, const SlotPlace& place, Facts facts, const void* frame,
                  const char* call) noexcept;

  HeapOptions options_;
  Layout layout_;
  SharedFrames frames_;
  View* views_ = nullptr;
  bool has_markers_ = false;
  GuardPages pages_;
  Slot* slots_ = nullptr;
  std::atomic<std::uint32_t>* chunks_ = nullptr;  // see chunks.cpp
  std::size_t tables_bytes_ = 0;
  std::byte* tables_ = nullptr;
  std::array<std::atomic<std::size_t>, kClasses> next_chunk_{};
  std::atomic<bool> fallback_used_{false};
  std::size_t quarantine_chunks_ = 0;  // of class 1; 0: all
  // Dead chunks in the order of their deaths; the oldest are forgotten.
  static constexpr std::size_t kRemembered = 4096;      // 32 MiB of slots
  static constexpr std::size_t kRememberedViews = 256;  // 4 MiB, 131,072 blocks
  std::atomic<std::uint32_t>* dead_ = nullptr;
  std::atomic<std::size_t> deaths_{0};

  // Pages that were opened after a report.
  std::array<std::atomic<std::byte*>, 64> let_through_{};
  std::atomic<std::size_t> let_through_count_{0};

  ColdPages cold_;
  CLibrary c_library_;
  pthread_t thread_{};
  std::atomic<bool> stopping_{false};

  std::size_t number_ = 0;  // among the heaps
  std::uint32_t epoch_ = 0;
  std::atomic<bool> locked_{false};
  std::byte* cache_memory_ = nullptr;
  std::size_t caches_made_ = 0;    // GUARDED_BY(locked_)
  ThreadCache* unused_ = nullptr;  // GUARDED_BY(locked_)
  std::atomic<ThreadCache*> all_{nullptr};
};
static_assert(sizeof(Engine) <= Heap::kEngineBytes);

/// Heaps of the process, for the fault handler, fork() and ending threads.
Engine* heap_number(std::size_t number) noexcept PAGETRAP_SIGNAL_SAFE;
Engine* heap_of(const void* address) noexcept PAGETRAP_SIGNAL_SAFE;
/// False: there are kHeaps already.
bool enlist(Engine* engine, std::size_t& number, std::uint32_t& epoch) noexcept;
void delist(std::size_t number) noexcept;

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
