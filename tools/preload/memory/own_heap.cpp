#include "memory/own_heap.hpp"

#include <sched.h>
#include <sys/mman.h>

#include <bit>
#include <new>

#include <pagetrap/core/units.hpp>

#include "sys/memory_calls.hpp"

namespace pagetrap::preload {

constinit OwnHeap engine_heap;
constinit OwnHeap library_heap;

namespace {
constexpr std::size_t kLargest = 64_GiB;  // of addresses; less under RLIMIT_AS
constexpr std::size_t kSmallest = 16_MiB;
constexpr std::size_t kGiveBackFrom = 128_KiB;  // freed blocks of that size keep no memory
}  // namespace

// Sizes 32, 40, 48, 56, 64, 80, ...
std::size_t OwnHeap::class_of(std::size_t size) noexcept {
  if (size <= 32) return 0;
  const auto doubling = static_cast<std::size_t>(std::bit_width(size - 1)) - 1;
  const std::size_t step = std::size_t{1} << (doubling - 2);
  const std::size_t quarter = (size - (std::size_t{1} << doubling) + step - 1) / step;
  return (doubling - 5) * 4 + quarter;
}

std::size_t OwnHeap::size_of(std::size_t size_class) noexcept {
  const std::size_t whole = std::size_t{1} << (size_class / 4 + 5);
  const std::size_t size = whole + size_class % 4 * (whole / 4);
  return (size + 15) & ~std::size_t{15};
}

void OwnHeap::lock() noexcept {
  for (unsigned tries = 0; locked_.exchange(true, std::memory_order_acquire); ++tries)
    if (tries > 100) ::sched_yield();
}

bool OwnHeap::reserve() noexcept {
  for (std::size_t size = kLargest; size >= kSmallest; size /= 2) {
    void* const memory = sys::plain_mmap(nullptr, size, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) continue;
    size_.store(size, std::memory_order_relaxed);
    base_.store(reinterpret_cast<std::uintptr_t>(memory), std::memory_order_release);
    return true;
  }
  return false;
}

void* OwnHeap::get(std::size_t size, std::size_t alignment) noexcept {
  if (size > kLargest / 2 || alignment > kLargest / 4) return nullptr;
  const std::size_t slack = alignment > 16 ? alignment : 0;
  const std::size_t size_class = class_of(size + slack + sizeof(Header));
  const std::size_t block_size = size_of(size_class);
  std::uintptr_t block = 0;
  lock();
  if (size_.load(std::memory_order_relaxed) != 0 || reserve()) {
    if (free_[size_class] != nullptr) {
      block = reinterpret_cast<std::uintptr_t>(free_[size_class]);
      free_[size_class] = free_[size_class]->next;
    } else if (block_size <= size_.load(std::memory_order_relaxed) - used_) {
      block = base_.load(std::memory_order_relaxed) + used_;
      used_ += block_size;
    }
  }
  unlock();
  if (block == 0) return nullptr;
  const std::uintptr_t start = (block + sizeof(Header) + alignment - 1) & ~(alignment - 1);
  auto* const result = reinterpret_cast<void*>(start);
  *header_of(result) = {static_cast<std::uint32_t>(size_class),
                        static_cast<std::uint32_t>(start - block), 0};
  return result;
}

void OwnHeap::give_back(void* block) noexcept {
  const Header header = *header_of(block);
  const auto start = reinterpret_cast<std::uintptr_t>(block) - header.offset;
  const std::size_t size = size_of(header.size_class);
  if (size >= kGiveBackFrom) {
    const std::uintptr_t first = (start + page_size() - 1) & ~(page_size() - 1);
    const std::uintptr_t last = (start + size) & ~(page_size() - 1);
    // Without it the memory stays, which is no error.
    if (last > first)
      static_cast<void>(
          sys::plain_madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED));
  }
  auto* const freed = reinterpret_cast<Free*>(start);
  lock();
  freed->next = free_[header.size_class];
  free_[header.size_class] = freed;
  unlock();
}

std::size_t OwnHeap::usable(const void* block) noexcept {
  const Header header = *header_of(block);
  return size_of(header.size_class) - header.offset;
}

}  // namespace pagetrap::preload

// The engine's, and hidden: see exported.map. All of them, since mimalloc has its own to offer.
namespace {

void* get(std::size_t size, std::size_t alignment = 16) {
  if (void* const block = pagetrap::preload::engine_heap.get(size, alignment)) return block;
  throw std::bad_alloc();
}
void* get_or_null(std::size_t size, std::size_t alignment = 16) noexcept {
  return pagetrap::preload::engine_heap.get(size, alignment);
}
void give_back(void* block) noexcept {
  if (block != nullptr) pagetrap::preload::engine_heap.give_back(block);
}
std::size_t number(std::align_val_t alignment) noexcept {
  const auto bytes = static_cast<std::size_t>(alignment);
  return bytes < 16 ? 16 : bytes;
}

}  // namespace

void* operator new(std::size_t size) { return get(size); }
void* operator new(std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
  return get_or_null(size);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return get(size, number(alignment));
}
void* operator new(std::size_t size, std::align_val_t alignment,
                   const std::nothrow_t& /*tag*/) noexcept {
  return get_or_null(size, number(alignment));
}
void operator delete(void* block) noexcept { give_back(block); }
void operator delete(void* block, std::size_t /*size*/) noexcept { give_back(block); }
void operator delete(void* block, const std::nothrow_t& /*tag*/) noexcept { give_back(block); }
void operator delete(void* block, std::align_val_t /*alignment*/) noexcept { give_back(block); }
void operator delete(void* block, std::size_t /*size*/, std::align_val_t /*alignment*/) noexcept {
  give_back(block);
}
void operator delete(void* block, std::align_val_t /*alignment*/,
                     const std::nothrow_t& /*tag*/) noexcept {
  give_back(block);
}
void* operator new[](std::size_t size) { return get(size); }
void* operator new[](std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
  return get_or_null(size);
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return get(size, number(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment,
                     const std::nothrow_t& /*tag*/) noexcept {
  return get_or_null(size, number(alignment));
}
void operator delete[](void* block) noexcept { give_back(block); }
void operator delete[](void* block, std::size_t /*size*/) noexcept { give_back(block); }
void operator delete[](void* block, const std::nothrow_t& /*tag*/) noexcept { give_back(block); }
void operator delete[](void* block, std::align_val_t /*alignment*/) noexcept { give_back(block); }
void operator delete[](void* block, std::size_t /*size*/, std::align_val_t /*alignment*/) noexcept {
  give_back(block);
}
void operator delete[](void* block, std::align_val_t /*alignment*/,
                       const std::nothrow_t& /*tag*/) noexcept {
  give_back(block);
}
