#include "guard/heap.hpp"

#include <sched.h>
#include <unistd.h>

#include <array>
#include <new>

#include <pagetrap/core/signal_safe_text.hpp>
#include <pagetrap/guard/problem.hpp>
#include <pagetrap/guard/stacks.hpp>

#include "guard/alternate_stacks.hpp"
#include "guard/settings.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::preload {

constinit std::atomic<guard::Engine*> the_heap{nullptr};
constinit bool sampling = false;
constinit thread_local std::uint32_t until_sampled = 0;
constinit std::uintptr_t guarded_begin = 0;
constinit std::size_t guarded_size = 0;
alignas(16) constinit std::array<std::byte, kFirstMemory> first_bytes{};

namespace {

enum class State : int { none, making, there, refused };
constinit std::atomic<State> state{State::none};
constinit thread_local bool making_it = false;
constinit std::uint32_t one_in = 1;
constinit bool families = true;
constinit bool tells_statistics = false;
alignas(64) constinit std::array<std::byte, guard::Heap::kEngineBytes> place{};

void say(const SignalSafeText& line) noexcept {
  static_cast<void>(sys::write_all(STDERR_FILENO, line.view().data(), line.view().size()));
}

void make() noexcept {
  making_it = true;
  Settings settings = read_settings();
  if (settings.wrong != nullptr) {
    SignalSafeText line;
    say(line.text("pagetrap: guard: ")
            .text(settings.wrong)
            .text(" makes no sense, and is ignored\n"));
  }
  one_in = settings.heap.one_in == 0 ? 1 : settings.heap.one_in;
  sampling = one_in > 1;
  families = settings.check_families;
  tells_statistics = settings.statistics;
  settings.heap.one_in = one_in;
  settings.heap.fallback = {own::allocate, own::release, own::usable_size};
  guard::report_to(settings.report);
  auto made = guard::Heap::create_at(place.data(), settings.heap);
  if (made) {
    const guard::HeapStatistics facts = guard::engine::statistics(**made);
    if (settings.heap.mechanism == guard::Mechanism::best &&
        facts.mechanism == guard::Mechanism::mprotect && !sampling) {
      SignalSafeText line;
      say(
          line.text("pagetrap: guard: neither userfaultfd nor guard markers here: PROT_NONE, and "
                    "beyond a quarter of vm.max_map_count objects are not guarded\n"));
    }
    if (facts.hot_bytes != settings.heap.hot_bytes) {
      SignalSafeText line;
      say(line.text(
          "pagetrap: guard: page instead of page+cold: no userfaultfd for faults in system "
          "calls here (see `pagetrap doctor`), or before Linux 6.8\n"));
    }
    if (facts.reserved_bytes < settings.heap.reservation_bytes) {
      SignalSafeText line;
      say(line.text("pagetrap: guard: only ")
              .unsigned_decimal(facts.reserved_bytes >> 30)
              .text(
                  " GiB of addresses may be had (RLIMIT_AS, vm.overcommit_memory): freed ones are "
                  "used again sooner\n"));
    }
    guard::report_stack_overflows();
    use_first_alternate_stack();
    guarded_begin = reinterpret_cast<std::uintptr_t>(facts.reserved);
    guarded_size = facts.reserved_bytes;
    the_heap.store(*made, std::memory_order_release);
    state.store(State::there, std::memory_order_release);
  } else {
    SignalSafeText line;
    say(line.text("pagetrap: guard: the program runs without guards: ")
            .text(made.error().operation)
            .text(", errno ")
            .decimal(made.error().number)
            .text("; ")
            .text(made.error().remedy)
            .text("\n"));
    sampling = false;
    state.store(State::refused, std::memory_order_release);
  }
  making_it = false;
}

[[gnu::destructor]] void end() {
  guard::Engine* const engine = the_heap.load();
  if (engine == nullptr || !tells_statistics) return;
  const guard::HeapStatistics facts = guard::engine::statistics(*engine);
  SignalSafeText line;
  say(line.text("pagetrap: guard: ")
          .unsigned_decimal(facts.guarded_allocations)
          .text(" allocations guarded, ")
          .unsigned_decimal(facts.fallback_allocations)
          .text(" not; ")
          .unsigned_decimal(facts.live_objects)
          .text(" live; ")
          .unsigned_decimal(facts.packed)
          .text(" packed, ")
          .unsigned_decimal(facts.brought_back)
          .text(" brought back; ")
          .unsigned_decimal(guard::reports())
          .text(" reports\n"));
}

// --- before there is a heap ------------------------------------------------------------------

constinit std::atomic<std::size_t> first_used{0};

}  // namespace

guard::Engine* heap() noexcept {
  for (;;) {
    switch (state.load(std::memory_order_acquire)) {
      case State::there:
        return the_heap.load(std::memory_order_relaxed);
      case State::refused:
        return nullptr;
      case State::making:
        if (making_it) return nullptr;
        ::sched_yield();
        continue;
      case State::none: {
        State expected = State::none;
        if (state.compare_exchange_strong(expected, State::making)) make();
      }
    }
  }
}

bool checks_families() noexcept { return families; }

bool is_sample() noexcept {
  const bool first_of_thread = until_sampled == 0;
  constinit static std::atomic<std::uint64_t> seed{0x9e3779b97f4a7c15U};
  std::uint64_t random = seed.fetch_add(0x9e3779b97f4a7c15U) ^ sys::monotonic_nanoseconds();
  random = (random ^ random >> 30) * 0xbf58476d1ce4e5b9U;
  random ^= random >> 27;
  // Uniform over twice the mean, so that a program's own period is not hit or missed for ever.
  until_sampled = 1 + static_cast<std::uint32_t>(random % (2 * std::uint64_t{one_in} - 1));
  return !first_of_thread || until_sampled == 1;
}

void* first_memory(std::size_t alignment, std::size_t size) noexcept {
  if (alignment < 16) alignment = 16;
  const std::size_t whole = (size + alignment + 31) & ~std::size_t{15};
  const std::size_t at = first_used.fetch_add(whole);
  if (at + whole > first_bytes.size()) return nullptr;
  auto start = reinterpret_cast<std::uintptr_t>(first_bytes.data() + at) + 16;
  start = (start + alignment - 1) & ~(alignment - 1);
  new (reinterpret_cast<void*>(start - 16)) std::size_t(size);
  return reinterpret_cast<void*>(start);
}

std::size_t first_memory_size(const void* block) noexcept {
  return *reinterpret_cast<const std::size_t*>(static_cast<const std::byte*>(block) - 16);
}

}  // namespace pagetrap::preload
