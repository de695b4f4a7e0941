#include "guard/cold/packed_store.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include <pagetrap/core/units.hpp>

#include "sys/memory_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

constexpr std::size_t kMost = 64_GiB - 64_KiB;  // what 32 bits can number
constexpr std::size_t kLists = 4096;

}  // namespace

Result<Done> PackedStore::begin() noexcept {
  for (std::size_t size = kMost; size >= 64_MiB; size /= 4) {
    void* const memory = sys::plain_mmap(nullptr, kLists + size, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) continue;
    free_ = static_cast<std::atomic<Packed>*>(memory);
    static_assert(kClasses * sizeof(*free_) <= kLists);
    memory_ = static_cast<std::byte*>(memory) + kLists;
    room_ = size / kUnit;
    return Done{};
  }
  return Error{"mmap of memory for packed objects", ENOMEM, {}, "raise RLIMIT_AS (ulimit -v)"};
}

void PackedStore::end() noexcept {
  if (memory_ != nullptr)
    static_cast<void>(sys::plain_munmap(memory_ - kLists, kLists + room_ * kUnit));
  memory_ = nullptr;
}

Packed PackedStore::put(const std::byte* object, std::size_t size) noexcept {
  const std::size_t length = units(size);
  std::atomic<Packed>& list = free_[length];
  Packed copy = list.load(std::memory_order_acquire);
  // RACE others put copies in front of it meanwhile. Only we take one out, so that the first one's
  // successor does not change while it is the first.
  while (copy != kNoCopy) {
    Packed next = kNoCopy;
    std::memcpy(&next, at(copy), sizeof next);
    if (list.compare_exchange_weak(copy, next, std::memory_order_acquire)) break;
  }
  if (copy == kNoCopy) {
    if (room_ - used_ < length) return kNoCopy;
    copy = static_cast<Packed>(used_);
    used_ += length;
  }
  std::memcpy(memory_ + copy * kUnit, object, size);
  return copy;
}

void PackedStore::drop(Packed copy, std::size_t size) noexcept {
  std::atomic<Packed>& list = free_[units(size)];
  Packed first = list.load(std::memory_order_relaxed);
  do {
    std::memcpy(memory_ + copy * kUnit, &first, sizeof first);
  } while (!list.compare_exchange_weak(first, copy, std::memory_order_release));
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
