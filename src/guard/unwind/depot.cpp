#include "guard/unwind/depot.hpp"

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstring>

#include "sys/memory_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

constexpr std::size_t kBuckets = std::size_t{1} << 18;
constexpr std::size_t kWords = std::size_t{1} << 30;  // 8 GiB of addresses
constexpr std::size_t kFewestWords = std::size_t{1} << 20;

// A stack: word 0 has the next one of its bucket (32 bits) and its length, word 1 its hash, by
// which it is known again; the frames follow. Its number is the index of word 0.
struct Depot {
  std::atomic<std::uint32_t>* buckets = nullptr;
  std::uint64_t* words = nullptr;
  std::size_t size = 0;
};

constinit Depot depot{};
constinit std::atomic<int> state{0};  // 0 not there, 1 being made, 2 there, 3 cannot be had
constinit std::atomic<std::size_t> used{1};

bool make() noexcept {
  int expected = 0;
  if (!state.compare_exchange_strong(expected, 1)) {
    // RACE another thread is making it: this stack is lost, nothing else.
    return expected == 2;
  }
  for (std::size_t size = kWords; size >= kFewestWords; size /= 4) {
    void* const memory = sys::plain_mmap(nullptr, size * 8 + kBuckets * 4, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) continue;
    depot.words = static_cast<std::uint64_t*>(memory);
    depot.buckets = reinterpret_cast<std::atomic<std::uint32_t>*>(depot.words + size);
    depot.size = size;
    state.store(2, std::memory_order_release);
    return true;
  }
  state.store(3);
  return false;
}

std::uint32_t search(std::uint32_t from, std::uint64_t hash) noexcept {
  while (from != 0) {
    const std::uint64_t* const stack = depot.words + from;
    if (stack[1] == hash) return from;
    from = static_cast<std::uint32_t>(stack[0]);
  }
  return 0;
}

}  // namespace

std::uint32_t remember_stack(const std::uintptr_t* frames, std::size_t count,
                             std::uint64_t hash) noexcept {
  if (state.load(std::memory_order_acquire) != 2 && !make()) return 0;
  std::atomic<std::uint32_t>& bucket = depot.buckets[hash % kBuckets];
  std::uint32_t first = bucket.load(std::memory_order_acquire);
  if (const std::uint32_t known = search(first, hash)) return known;
  const std::size_t size = count + 2;
  const std::size_t at = used.fetch_add(size, std::memory_order_relaxed);
  if (at + size > depot.size) {
    used.fetch_sub(size, std::memory_order_relaxed);
    return 0;
  }
  std::uint64_t* const stack = depot.words + at;
  stack[1] = hash;
  std::memcpy(stack + 2, frames, count * 8);
  // RACE two threads put in the same stack: it is there twice, under two numbers.
  do {
    stack[0] = first | static_cast<std::uint64_t>(count) << 32;
  } while (!bucket.compare_exchange_weak(first, static_cast<std::uint32_t>(at),
                                         std::memory_order_release));
  return static_cast<std::uint32_t>(at);
}

Frames recall_stack(std::uint32_t number) noexcept PAGETRAP_SIGNAL_SAFE {
  Frames frames;
  if (number == 0 || state.load(std::memory_order_acquire) != 2) return frames;
  const std::uint64_t* const stack = depot.words + number;
  frames.count = stack[0] >> 32;
  std::memcpy(frames.addresses.data(), stack + 2, frames.count * 8);
  return frames;
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
