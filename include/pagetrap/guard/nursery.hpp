// NurseryPool: nurseries of one size, each in front of a guard, for bump allocation without a limit
// check. Next: bump.hpp.
#pragma once

#include <cstddef>
#include <memory>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

class NurseryPool;
struct NurseryPoolState;  // src/guard/bump/nursery_pool_state.hpp

/// The nursery that an allocation did not fit into.
struct FullNursery {
  std::byte* base = nullptr;  // null: the allocator had none yet
  std::byte* end = nullptr;   // where its last object ends
};

/// Says where to go on: a nursery from pool.take(), or full.base again if its objects are dead or
/// were copied. Null: nowhere; the allocation returns null.
/// Signals  With GuardPage it runs inside the fault handler of the thread that allocates: it may
///          not allocate, nor take a lock that its thread may hold.
/// Threads  as many at once as allocate.
using Refill = std::byte* (*)(void* self, NurseryPool& pool, const FullNursery& full) noexcept
    PAGETRAP_SIGNAL_SAFE;

struct NurseryOptions {
  std::size_t nursery_bytes = 512_KiB;  // rounded up to pages; at least NurseryPool::kGuardBytes
  std::size_t nurseries = 16;
  Refill refill = nullptr;  // null: take(); full ones stay as they are
  void* self = nullptr;     // for refill; borrowed
};

/// Owns the nurseries. Move-only; allocators keep its address, so it stays where it is from the
/// first of them on.
class PAGETRAP_API NurseryPool {
 public:
  /// Behind each nursery. Objects that are not longer cannot jump over it.
  static constexpr std::size_t kGuardBytes = 64_KiB;

  NurseryPool() noexcept;
  ~NurseryPool();
  NurseryPool(NurseryPool&& other) noexcept;
  NurseryPool& operator=(NurseryPool&& other) noexcept;

  /// Errors  EINVAL: names the option; ENOMEM: addresses, or (before Linux 6.13) mappings for the
  ///         guards.
  static Result<NurseryPool> create(const NurseryOptions& options = {});

  /// A nursery that nobody has; null: none. Threads any. Signals safe.
  std::byte* take() noexcept PAGETRAP_SIGNAL_SAFE;
  /// `nursery` may be taken again. Its contents stay. Threads any. Signals safe.
  void give_back(std::byte* nursery) noexcept PAGETRAP_SIGNAL_SAFE;

  [[nodiscard]] std::size_t nursery_bytes() const noexcept PAGETRAP_SIGNAL_SAFE;
  /// Refills since the pool was made.
  [[nodiscard]] std::size_t refills() const noexcept PAGETRAP_SIGNAL_SAFE;

  /// For allocators: where one begins that has no nursery. Nothing fits there.
  [[nodiscard]] std::byte* nowhere() const noexcept PAGETRAP_SIGNAL_SAFE;

  /// For allocators: room for an object, after the one at `cursor` did not fit or may not.
  struct Place {
    std::byte* object = nullptr;  // null: there is none
    std::byte* limit = nullptr;   // the end of its nursery
  };
  Place place(std::byte* cursor, std::size_t size_bytes) noexcept PAGETRAP_SIGNAL_SAFE;

 private:
  explicit NurseryPool(std::unique_ptr<NurseryPoolState> state) noexcept;
  std::unique_ptr<NurseryPoolState> state_;
};

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
