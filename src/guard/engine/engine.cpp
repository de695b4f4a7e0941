#include "guard/engine/engine.hpp"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <new>
#include <string_view>

#include "sys/filter.hpp"
#include "sys/kernel_abi.hpp"
#include "sys/memory_calls.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

constinit thread_local ThreadCaches caches{};
constinit std::array<std::atomic<Engine*>, kHeaps> heaps{};
constinit std::array<std::atomic<std::uint32_t>, kHeaps> epochs{};
constinit std::atomic<bool> registered{false};
pthread_key_t exit_key;

constexpr std::size_t kCacheBytes = (sizeof(ThreadCache) + 63) & ~std::size_t{63};
constexpr std::size_t kMostCaches = std::size_t{1} << 16;

void on_thread_exit(void*) noexcept {
  for (std::size_t i = 0; i < kHeaps; ++i) {
    ThreadCache* const cache = caches.of_heap[i];
    caches.of_heap[i] = nullptr;
    Engine* const engine = heap_number(i);
    if (cache != nullptr && engine != nullptr && caches.heap_epoch[i] == epochs[i].load())
      engine->give_back_cache(cache);
  }
}

template <class Work>
void for_each_heap(Work work) noexcept {
  for (const auto& heap : heaps)
    if (Engine* const engine = heap.load(std::memory_order_acquire)) work(*engine);
}

constinit thread_local sigset_t mask_before_fork{};

// A signal's handler that touches what is packed would wait for a thread that waits for us: until
// all heaps are unlocked, and in a child until each has a thread of its own again.
void block_signals() noexcept {
  sigset_t all;
  ::sigfillset(&all);
  for (const int raised : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) ::sigdelset(&all, raised);
  sys::change_signal_mask(SIG_BLOCK, all, &mask_before_fork);
}
void unblock_signals() noexcept { sys::change_signal_mask(SIG_SETMASK, mask_before_fork, nullptr); }

bool register_once() noexcept {
  if (registered.exchange(true)) return true;
  const auto lock = [] {
    block_signals();
    for_each_heap([](Engine& engine) { engine.lock_for_fork(); });
  };
  const auto unlock = [] {
    for_each_heap([](Engine& engine) { engine.unlock_after_fork(); });
    unblock_signals();
  };
  const auto in_child = [] {
    for_each_heap([](Engine& engine) { engine.in_child(); });
    unblock_signals();
  };
  return ::pthread_key_create(&exit_key, on_thread_exit) == 0 &&
         ::pthread_atfork(lock, unlock, in_child) == 0;
}

}  // namespace

ThreadCaches& this_threads_caches() noexcept { return caches; }

Engine* heap_number(std::size_t number) noexcept PAGETRAP_SIGNAL_SAFE {
  return heaps[number].load(std::memory_order_acquire);
}

Engine* heap_of(const void* address) noexcept PAGETRAP_SIGNAL_SAFE {
  for (const auto& heap : heaps) {
    Engine* const engine = heap.load(std::memory_order_acquire);
    if (engine != nullptr && engine->contains(address)) return engine;
  }
  return nullptr;
}

bool enlist(Engine* engine, std::size_t& number, std::uint32_t& epoch) noexcept {
  for (std::size_t i = 0; i < kHeaps; ++i) {
    Engine* nobody = nullptr;
    if (!heaps[i].compare_exchange_strong(nobody, engine)) continue;
    number = i;
    epoch = epochs[i].fetch_add(1) + 1;
    return true;
  }
  return false;
}

void delist(std::size_t number) noexcept {
  epochs[number].fetch_add(1);
  heaps[number].store(nullptr);
}

Result<Engine*> Engine::create_at(void* place, const HeapOptions& options) noexcept {
  auto* const engine = new (place) Engine();
  if (auto begun = engine->begin(options); !begun) {
    engine->pages_.give_back();
    return begun.error();
  }
  return engine;
}

Result<Done> Engine::begin(const HeapOptions& options) noexcept {
  options_ = options;
  auto layout = pages_.reserve(options.mechanism, options.reservation_bytes);
  if (!layout) return layout.error();
  layout_ = *layout;
  const std::size_t slot_bytes = layout_.table_size() * sizeof(Slot);
  const std::size_t chunk_bytes = bytes(pages_for(layout_.chunk_table_size() * 4));
  const std::size_t dead_bytes = bytes(pages_for(kRemembered * 4));
  const std::size_t cache_bytes = bytes(pages_for(kMostCaches * kCacheBytes));
  const std::size_t view_bytes = layout_.slots(kViews) / kExtentPages * sizeof(View);
  tables_bytes_ = slot_bytes + chunk_bytes + dead_bytes + cache_bytes + view_bytes;
  void* const tables = sys::plain_mmap(nullptr, tables_bytes_, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (tables == MAP_FAILED) return Error{"mmap of a guard heap's tables", errno};
  tables_ = static_cast<std::byte*>(tables);
  static_cast<void>(sys::plain_madvise(tables, tables_bytes_, MADV_NOHUGEPAGE));
  slots_ = static_cast<Slot*>(tables);
  chunks_ = reinterpret_cast<std::atomic<std::uint32_t>*>(tables_ + slot_bytes);
  dead_ = reinterpret_cast<std::atomic<std::uint32_t>*>(tables_ + slot_bytes + chunk_bytes);
  cache_memory_ = tables_ + slot_bytes + chunk_bytes + dead_bytes;
  views_ = reinterpret_cast<View*>(cache_memory_ + cache_bytes);
  if (options.strength == Strength::alias) {
    if (auto begun = frames_.begin(); !begun) return begun.error();
    const PageRange probe{tables_, Pages{1}};
    has_markers_ =
        sys::advise(probe, MADV_GUARD_INSTALL) == 0 && sys::advise(probe, MADV_GUARD_REMOVE) == 0;
  }
  if (options.hot_bytes != 0 &&
      (options.strength != Strength::page || options.one_in > 1 ||
       pages_.mechanism() != Mechanism::userfaultfd || !GuardPages::can_deliver_to_thread()))
    options_.hot_bytes = 0;  // statistics() tells
  if (options_.hot_bytes != 0) {
    if (auto begun = cold_.begin(layout_, options_.hot_bytes); !begun) return begun.error();
    c_library_.find();
  }
  // The first chunk comes last: before the first object, too, there are addresses of ours.
  for (auto& next : next_chunk_) next.store(1, std::memory_order_relaxed);
  if (options.quarantine_slots != 0) {
    quarantine_chunks_ = options.quarantine_slots / Layout::slots_in_chunk(1);
    if (quarantine_chunks_ < 2) quarantine_chunks_ = 2;
  }
  if (!register_once()) return Error{"pthread_atfork", ENOMEM};
  if (!enlist(this, number_, epoch_))
    return Error{"guard::Heap::create", EMFILE, {}, "there are four guard heaps already"};
  return install_fault_handler();
}

void Engine::end() noexcept {
  delist(number_);
  stop_thread();
  cold_.end();
  frames_.end();
  pages_.give_back();
  static_cast<void>(sys::plain_munmap(tables_, tables_bytes_));
}

ThreadCache* Engine::cache() noexcept {
  ThreadCaches& mine = caches;
  ThreadCache* const known = mine.of_heap[number_];
  if (known != nullptr && mine.heap_epoch[number_] == epoch_) return known;
  return new_cache();
}

ThreadCache* Engine::new_cache() noexcept {
  while (locked_.exchange(true, std::memory_order_acquire)) sys::yield();
  ThreadCache* cache = unused_;
  bool made = false;
  if (cache != nullptr) {
    unused_ = cache->next;
  } else if (caches_made_ < kMostCaches) {
    cache = new (cache_memory_ + caches_made_ * kCacheBytes) ThreadCache();
    caches_made_ += 1;
    made = true;
  }
  locked_.store(false, std::memory_order_release);
  if (cache == nullptr) return nullptr;
  if (made) {
    cache->all_next = all_.load();
    while (!all_.compare_exchange_weak(cache->all_next, cache)) {
    }
    cache->random = (options_.seed != 0 ? options_.seed : sys::monotonic_nanoseconds()) +
                    caches_made_ * 0x9e3779b97f4a7c15U + 1;
  }
  cache->thread = static_cast<std::uint32_t>(sys::thread_id());
  caches.of_heap[number_] = cache;
  caches.heap_epoch[number_] = epoch_;
  // So that our function runs when the thread ends. Without it the cache stays unused.
  static_cast<void>(::pthread_setspecific(exit_key, &caches));
  return cache;
}

void Engine::give_back_cache(ThreadCache* cache) noexcept {
  for (ViewCursor& cursor : cache->views.cursors)
    while (Extent* const first = cursor.extents) {
      cursor.extents = first->next;
      frames_.leave(*first);
    }
  while (locked_.exchange(true, std::memory_order_acquire)) sys::yield();
  cache->next = unused_;
  unused_ = cache;
  locked_.store(false, std::memory_order_release);
}

void Engine::lock_for_fork() noexcept {
  while (locked_.exchange(true, std::memory_order_acquire)) sys::yield();
  // No object is on its way then.
  while (cold_.packing.exchange(true, std::memory_order_acquire)) sys::yield();
  while (cold_.bringing.exchange(true, std::memory_order_acquire)) sys::yield();
  if (options_.strength == Strength::alias) frames_.copy_for_child();
}
void Engine::unlock_after_fork() noexcept {
  frames_.forget_copy();
  cold_.bringing.store(false, std::memory_order_release);
  cold_.packing.store(false, std::memory_order_release);
  locked_.store(false, std::memory_order_release);
}
void Engine::in_child() noexcept {
  pages_.in_child();
  if (options_.strength == Strength::alias) views_in_child();
  if (ThreadCache* const cache = caches.of_heap[number_])
    cache->thread = static_cast<std::uint32_t>(sys::thread_id());
  unlock_after_fork();
  // pthread_create() allocates.
  if (cold_.served.load() && !start_thread()) {
    constexpr std::string_view kWords =
        "pagetrap: guard: no thread for a fork()ed child's packed blocks: it cannot go on\n";
    static_cast<void>(sys::write_all(2, kWords.data(), kWords.size()));
    sys::end_process(1);
  }
}

HeapStatistics Engine::statistics() const noexcept {
  HeapStatistics sum;
  std::uint64_t releases = 0;
  for (const ThreadCache* cache = all_.load(); cache != nullptr; cache = cache->all_next) {
    sum.guarded_allocations += cache->allocations;
    sum.fallback_allocations += cache->fallbacks;
    releases += cache->releases;
  }
  sum.live_objects = sum.guarded_allocations - releases;
  sum.reserved = reinterpret_cast<const void*>(layout_.base());
  sum.reserved_bytes = layout_.size_bytes();
  sum.mechanism = pages_.mechanism();
  sum.hot_bytes = options_.hot_bytes;
  sum.packed = cold_.packed_ever.load(std::memory_order_relaxed);
  sum.brought_back = cold_.brought_back.load(std::memory_order_relaxed);
  return sum;
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
