#include <pagetrap/guard/arena.hpp>

#include <algorithm>
#include <utility>

#include "guard/arena/arena_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

Arena::Arena() noexcept = default;
Arena::Arena(std::unique_ptr<ArenaState> state) noexcept : state_(std::move(state)) {}
Arena::Arena(Arena&& other) noexcept = default;
Arena& Arena::operator=(Arena&& other) noexcept {
  if (this != &other) {
    flush();
    state_ = std::move(other.state_);
  }
  return *this;
}
Arena::~Arena() { flush(); }

Result<Arena> Arena::reserve(const ArenaOptions& options) {
  auto state = ArenaState::make(options);
  if (!state) return state.error();
  return Arena(std::move(*state));
}

void* Arena::allocate(const ObjectType& type) { return state_->allocate(type); }

bool Arena::end_life(void* object, const ObjectType& type) noexcept {
  return state_->end_life(object, type);
}

void Arena::bury(void* object, const ObjectType& type) noexcept {
  state_->account_dead(static_cast<std::byte*>(object), type.stride);
}

bool Arena::alive(const void* address) const noexcept PAGETRAP_SIGNAL_SAFE {
  return state_->alive(address);
}

PageRange Arena::range() const noexcept PAGETRAP_SIGNAL_SAFE { return state_->region.range(); }

ArenaStatistics Arena::statistics() const noexcept {
  ArenaStatistics all;
  all.pages_dropped = state_->pages_dropped.load(std::memory_order_relaxed);
  all.pages_kept = state_->pages_kept.load(std::memory_order_relaxed);
  all.chunks_dropped = state_->chunks_dropped.load(std::memory_order_relaxed);
  all.addresses_used = state_->spans_used.load(std::memory_order_relaxed) * kSpan;
  all.never_destroyed = state_->never_destroyed.load(std::memory_order_relaxed);
  const std::lock_guard guard(state_->retiring);
  all.retired = state_->retired.size();
  return all;
}

// Where memory for the list is wanting, the object is never destroyed: nobody reads what it should
// not, and the statistics tell.
void Arena::retire_object(void* object, Destroy how) noexcept {
  bool full = false;
  try {
    const std::lock_guard guard(state_->retiring);
    state_->retired.push_back({object, how});
    full = state_->retired.size() >= state_->next_flush;
  } catch (const std::bad_alloc&) {
    state_->never_destroyed.fetch_add(1, std::memory_order_relaxed);
  }
  if (full) flush();
}

// The list is taken out whole: destructors may retire in their turn, and nothing that is retired
// after the barrier may profit from it.
void Arena::flush() noexcept {
  if (state_ == nullptr) return;
  std::vector<Retired> waiting;
  std::vector<const void*> shielded;
  {
    const std::lock_guard guard(state_->retiring);
    waiting.swap(state_->retired);
  }
  if (waiting.empty()) return;
  bool known = false;
  try {
    known = collect_shielded(shielded) == 0;
  } catch (const std::bad_alloc&) {
  }
  const auto kept = std::partition(waiting.begin(), waiting.end(), [&](const Retired& retired) {
    return known && !std::binary_search(shielded.begin(), shielded.end(), retired.object);
  });
  for (auto each = waiting.begin(); each != kept; ++each) each->destroy(*this, each->object);
  waiting.erase(waiting.begin(), kept);
  const std::lock_guard guard(state_->retiring);
  state_->next_flush = waiting.size() + state_->options.retire_batch;
  try {
    state_->retired.insert(state_->retired.end(), waiting.begin(), waiting.end());
  } catch (const std::bad_alloc&) {
    state_->never_destroyed.fetch_add(waiting.size(), std::memory_order_relaxed);
  }
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
