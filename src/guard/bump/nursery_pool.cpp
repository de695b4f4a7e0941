#include <bit>
#include <cerrno>
#include <utility>

#include "guard/bump/nursery_pool_state.hpp"
#include "sys/first_store.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

constexpr std::size_t kBits = 64;

Result<Done> put_up_guards(Region& region, std::size_t nurseries, std::size_t nursery_bytes) {
  const Pages length = pages_for(NurseryPool::kGuardBytes);
  std::byte* next = region.data();
  for (std::size_t i = 0; i <= nurseries; ++i) {
    if (auto guarded = region.guard({next, length}); !guarded) return guarded.error();
    next += NurseryPool::kGuardBytes + nursery_bytes;
  }
  return Done{};
}

}  // namespace

NurseryPoolState::NurseryPoolState(Region memory, const NurseryOptions& asked, std::size_t rounded)
    : region(std::move(memory)),
      nursery_bytes(rounded),
      options(asked),
      taken((asked.nurseries + kBits - 1) / kBits) {
  // Those that are not there count as taken.
  if (const std::size_t rest = asked.nurseries % kBits; rest != 0)
    taken.back().store(~std::uint64_t{0} << rest, std::memory_order_relaxed);
}

std::byte* NurseryPoolState::nursery_of(const std::byte* cursor) const noexcept
    PAGETRAP_SIGNAL_SAFE {
  const std::byte* const first = nursery(0);
  if (!region.range().contains(cursor) || cursor < first) return nullptr;
  return nursery(static_cast<std::size_t>(cursor - first) / stride());
}

std::byte* NurseryPoolState::take() noexcept PAGETRAP_SIGNAL_SAFE {
  for (std::size_t i = 0; i < taken.size(); ++i) {
    std::uint64_t seen = taken[i].load(std::memory_order_relaxed);
    while (seen != ~std::uint64_t{0}) {
      const int bit = std::countr_one(seen);
      // Acquire: what its last user wrote comes before.
      if (taken[i].compare_exchange_weak(seen, seen | std::uint64_t{1} << bit,
                                         std::memory_order_acquire, std::memory_order_relaxed))
        return nursery(i * kBits + static_cast<std::size_t>(bit));
    }
  }
  return nullptr;
}

void NurseryPoolState::give_back(const std::byte* base) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::byte* const known = nursery_of(base);
  if (known == nullptr || known != base) return;
  const std::size_t index = static_cast<std::size_t>(base - nursery(0)) / stride();
  taken[index / kBits].fetch_and(~(std::uint64_t{1} << index % kBits), std::memory_order_release);
}

std::byte* NurseryPoolState::next_after(std::byte* cursor) noexcept PAGETRAP_SIGNAL_SAFE {
  std::byte* const left = nursery_of(cursor);
  const FullNursery full{left, left == nullptr ? nullptr : cursor};
  std::byte* const next =
      options.refill == nullptr ? take() : options.refill(options.self, *pool, full);
  // Anything else would be allocated in all the same, without a guard at its end.
  if (next == nullptr || nursery_of(next) != next) return nullptr;
  refills.fetch_add(1, std::memory_order_relaxed);
  return next;
}

// The fault is an allocation's if the instruction is its store, the address is where that goes, and
// the object would have begun in a nursery and ended behind it. Nobody else has this nursery, so
// that there is nothing to lock.
Verdict NurseryPoolState::on_fault(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  auto& state = *static_cast<NurseryPoolState*>(self);
  sys::FirstStore store;
  if (fault.context == nullptr || !sys::is_first_store(fault.context, store) ||
      fault.address != store.next - sizeof(std::uint64_t) || store.object > fault.address ||
      !state.region.range().contains(store.object))
    return Verdict::not_mine;
  std::byte* const next = state.next_after(store.object);
  if (next == nullptr) {
    sys::skip_first_store(fault.context, {nullptr, store.object});
  } else {
    sys::redirect_first_store(fault.context, {next, next + (store.next - store.object)});
  }
  return Verdict::resolved;
}

NurseryPool::NurseryPool() noexcept = default;
NurseryPool::~NurseryPool() = default;
NurseryPool::NurseryPool(std::unique_ptr<NurseryPoolState> state) noexcept
    : state_(std::move(state)) {
  state_->pool = this;
}
NurseryPool::NurseryPool(NurseryPool&& other) noexcept : state_(std::move(other.state_)) {
  if (state_ != nullptr) state_->pool = this;
}
NurseryPool& NurseryPool::operator=(NurseryPool&& other) noexcept {
  state_ = std::move(other.state_);
  if (state_ != nullptr) state_->pool = this;
  return *this;
}

Result<NurseryPool> NurseryPool::create(const NurseryOptions& options) {
  if (options.nurseries == 0) return Error{"NurseryOptions.nurseries", EINVAL, {}, "at least 1"};
  if (options.nursery_bytes < kGuardBytes)
    return Error{"NurseryOptions.nursery_bytes", EINVAL, {}, "at least kGuardBytes"};
  const std::size_t rounded = bytes(pages_for(options.nursery_bytes));
  std::size_t total = 0;
  if (__builtin_mul_overflow(rounded + kGuardBytes, options.nurseries, &total) ||
      __builtin_add_overflow(total, kGuardBytes, &total))
    return Error{"NurseryOptions.nurseries", ENOMEM, {}, "more than all addresses"};
  RegionOptions memory;
  memory.name = "pagetrap nurseries";
  memory.faults = FaultKind::no_access;
  memory.delivery = Delivery::faulting_thread;
  // By name: only guards are wanted, which every backend makes alike but null, which the
  // environment may ask for, and which would let objects grow over the nursery's end.
  memory.backend = BackendId::mprotect;
  auto region = Region::create(total, memory);
  if (!region) return region.error();
  if (auto guarded = put_up_guards(*region, options.nurseries, rounded); !guarded)
    return guarded.error();
  auto state = std::make_unique<NurseryPoolState>(std::move(*region), options, rounded);
  if (auto set = state->region.on_fault(NurseryPoolState::on_fault, state.get()); !set)
    return set.error();
  return NurseryPool(std::move(state));
}

std::byte* NurseryPool::take() noexcept PAGETRAP_SIGNAL_SAFE { return state_->take(); }
void NurseryPool::give_back(std::byte* nursery) noexcept PAGETRAP_SIGNAL_SAFE {
  state_->give_back(nursery);
}
std::size_t NurseryPool::nursery_bytes() const noexcept PAGETRAP_SIGNAL_SAFE {
  return state_->nursery_bytes;
}
std::size_t NurseryPool::refills() const noexcept PAGETRAP_SIGNAL_SAFE {
  return state_->refills.load(std::memory_order_relaxed);
}
std::byte* NurseryPool::nowhere() const noexcept PAGETRAP_SIGNAL_SAFE {
  return state_->region.data();
}

NurseryPool::Place NurseryPool::place(std::byte* cursor, std::size_t size_bytes) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const std::size_t size = state_->nursery_bytes;
  if (size_bytes > size) return {};
  std::byte* base = state_->nursery_of(cursor);
  const bool fits = base != nullptr && size_bytes <= static_cast<std::size_t>(base + size - cursor);
  if (fits) return {cursor, base + size};
  base = state_->next_after(cursor);
  return base == nullptr ? Place{} : Place{base, base + size};
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
