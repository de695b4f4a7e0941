// The slots of all threads, and the freer's look at them.
#include <pagetrap/guard/owner.hpp>

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <new>

#include <pagetrap/vm/freeze.hpp>

#include "guard/arena/arena_state.hpp"
#include "sys/mapping.hpp"
#include "sys/membarrier.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace detail {

constinit thread_local FreeShields free_shields{};

namespace {

constexpr std::size_t kMost = std::size_t{1} << 16;  // shields of one thread at a time
constexpr std::size_t kMore = 64;                    // made at once

// The slots of a thread. Never unmapped: a freer may be reading them while their thread ends. The
// next thread that begins uses them again.
struct Slots {
  ShieldSlot* slots = nullptr;
  ShieldSlot** free = nullptr;
  std::atomic<std::size_t> made{0};
  std::atomic<bool> in_use{true};
  Slots* next = nullptr;
};

constinit std::atomic<Slots*> g_all{nullptr};

Slots* find_unused() noexcept {
  for (Slots* each = g_all.load(std::memory_order_acquire); each != nullptr; each = each->next) {
    bool expected = false;
    if (each->in_use.compare_exchange_strong(expected, true, std::memory_order_acquire))
      return each;
  }
  return nullptr;
}

Slots* add() {
  constexpr std::size_t kBytes = kMost * (sizeof(ShieldSlot) + sizeof(ShieldSlot*));
  auto memory = sys::Mapping::create({.size_bytes = kBytes,
                                      .prot = PROT_READ | PROT_WRITE,
                                      .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE});
  if (!memory) throw std::bad_alloc();
  auto* const made = new Slots;
  std::byte* const base = memory->release().base;
  made->slots = reinterpret_cast<ShieldSlot*>(base);
  made->free = reinterpret_cast<ShieldSlot**>(base + kMost * sizeof(ShieldSlot));
  made->next = g_all.load(std::memory_order_relaxed);
  while (!g_all.compare_exchange_weak(made->next, made, std::memory_order_release)) {
  }
  return made;
}

// The calling thread's, until it ends. A pointer apart from what has a destructor: destructors of
// other thread-locals may make shields after that has run.
constinit thread_local Slots* t_slots = nullptr;

struct Leaver {
  ~Leaver() {
    if (t_slots == nullptr) return;
    free_shields = {};
    t_slots->in_use.store(false, std::memory_order_release);
    t_slots = nullptr;
  }
};

// In a fork()ed child the other threads' shields protect nothing.
void forget_other_threads() noexcept {
  for (Slots* each = g_all.load(std::memory_order_relaxed); each != nullptr; each = each->next) {
    if (each == t_slots) continue;
    for (std::size_t i = 0; i < each->made.load(std::memory_order_relaxed); ++i)
      each->slots[i].store(nullptr, std::memory_order_relaxed);
    each->in_use.store(false, std::memory_order_relaxed);
  }
}

}  // namespace

void make_shields() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (::pthread_atfork(nullptr, nullptr, forget_other_threads) != 0) throw std::bad_alloc();
  });
  if (t_slots == nullptr) {
    Slots* const unused = find_unused();
    t_slots = unused != nullptr ? unused : add();
    static thread_local Leaver t_leaver;
    static_cast<void>(t_leaver);
    // What an earlier thread made is free.
    free_shields = {t_slots->free, t_slots->free};
    for (std::size_t i = 0; i < t_slots->made.load(std::memory_order_relaxed); ++i)
      *free_shields.top++ = &t_slots->slots[i];
    if (free_shields.top != free_shields.bottom) return;
  }
  Slots& mine = *t_slots;
  const std::size_t made = mine.made.load(std::memory_order_relaxed);
  if (made + kMore > kMost) throw std::bad_alloc();
  for (std::size_t i = made; i < made + kMore; ++i) *free_shields.top++ = &mine.slots[i];
  // RACE a freer that does not see these yet: their first use is after its barrier then, and finds
  // the owner changed.
  mine.made.store(made + kMore, std::memory_order_release);
}

}  // namespace detail

int collect_shielded(std::vector<const void*>& shielded) {
  if (sys::barrier_in_all_threads() != 0) {
    // A signal to every thread is one too.
    const auto nothing = [](void*, void*) noexcept {};
    if (auto done = for_every_other_thread(nothing, nullptr); !done) return done.error().number;
  }
  using detail::g_all;
  for (auto* each = g_all.load(std::memory_order_acquire); each != nullptr; each = each->next) {
    const std::size_t made = each->made.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < made; ++i)
      if (const void* const object = each->slots[i].load(std::memory_order_acquire))
        shielded.push_back(object);
  }
  std::sort(shielded.begin(), shielded.end());
  return 0;
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
