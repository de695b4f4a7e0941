#include "memory/territory.hpp"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdint>

#include "sys/memory_calls.hpp"

namespace pagetrap::preload {
namespace {

constexpr std::size_t kMostExtents = std::size_t{1} << 20;
constexpr std::size_t kMostAlignment = 64_MiB;
constexpr int kReserved = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

class Locked {
 public:
  explicit Locked(Territory& territory) noexcept : territory_(territory) { territory_.lock(); }
  ~Locked() { territory_.unlock(); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  Territory& territory_;
};

std::byte* aligned(std::byte* address, std::size_t alignment) noexcept {
  const auto bits = reinterpret_cast<std::uintptr_t>(address);
  return reinterpret_cast<std::byte*>((bits + alignment - 1) & ~(alignment - 1));
}

}  // namespace

void Territory::lock() noexcept {
  for (unsigned tries = 0; locked_.exchange(true, std::memory_order_acquire); ++tries)
    if (tries > 100) ::sched_yield();
}

bool Territory::reserve(std::size_t wanted, std::size_t least) noexcept {
  void* const extents = sys::plain_mmap(nullptr, kMostExtents * sizeof(Extent),
                                        PROT_READ | PROT_WRITE, kReserved, -1, 0);
  if (extents == MAP_FAILED) return false;
  for (std::size_t size = wanted; size >= least; size /= 2) {
    void* const memory =
        sys::plain_mmap(nullptr, size + kMostAlignment, PROT_READ | PROT_WRITE, kReserved, -1, 0);
    if (memory == MAP_FAILED) continue;
    // A huge page would be taken apart by the first eviction in it. EINVAL: there are none.
    static_cast<void>(sys::plain_madvise(memory, size + kMostAlignment, MADV_NOHUGEPAGE));
    std::byte* const base = aligned(static_cast<std::byte*>(memory), kMostAlignment);
    range_ = {base, pages_for(size)};
    free_ = static_cast<Extent*>(extents);
    free_[0] = {range_.base, range_.end()};
    count_ = 1;
    high_.store(base);
    return true;
  }
  return false;
}

bool Territory::touches(const void* address, std::size_t length) const noexcept {
  const auto begin = reinterpret_cast<std::uintptr_t>(address);
  const auto base = reinterpret_cast<std::uintptr_t>(range_.base);
  return begin < base + range_.size_bytes() && begin + length > base;
}

PageRange Territory::used_part() const noexcept {
  return {range_.base, Pages{static_cast<std::size_t>(high_.load() - range_.base) / page_size()}};
}

void Territory::erase(std::size_t which) noexcept {
  std::copy(free_ + which + 1, free_ + count_, free_ + which);
  --count_;
}

bool Territory::insert(std::size_t which, Extent extent) noexcept {
  if (count_ == kMostExtents) return false;
  std::copy_backward(free_ + which, free_ + count_, free_ + count_ + 1);
  free_[which] = extent;
  ++count_;
  return true;
}

std::size_t Territory::first_ending_after(const std::byte* address) const noexcept {
  const Extent* const found =
      std::lower_bound(free_, free_ + count_, address,
                       [](const Extent& extent, const std::byte* at) { return extent.end <= at; });
  return static_cast<std::size_t>(found - free_);
}

// What of it is free is free no more. A full table loses addresses, never hands any out twice.
void Territory::remove(PageRange wanted) noexcept {
  for (std::size_t i = first_ending_after(wanted.base);
       i < count_ && free_[i].begin < wanted.end();) {
    const Extent found = free_[i];
    taken_.fetch_add(static_cast<std::size_t>(std::min(found.end, wanted.end()) -
                                              std::max(found.begin, wanted.base)),
                     std::memory_order_relaxed);
    erase(i);
    if (found.begin < wanted.base) i += insert(i, {found.begin, wanted.base}) ? 1 : 0;
    if (found.end > wanted.end()) i += insert(i, {wanted.end(), found.end}) ? 1 : 0;
  }
  if (wanted.end() > high_.load()) high_.store(wanted.end());
}

std::byte* Territory::take(std::size_t size) noexcept {
  const PageRange sized{nullptr, pages_for(size)};
  const std::size_t alignment =
      std::clamp(std::bit_floor(sized.size_bytes()), page_size(), kMostAlignment);
  const Locked locked(*this);
  for (std::size_t i = 0; i < count_; ++i) {
    std::byte* const base = aligned(free_[i].begin, alignment);
    if (base > free_[i].end || static_cast<std::size_t>(free_[i].end - base) < sized.size_bytes())
      continue;
    remove({base, sized.length});
    return base;
  }
  return nullptr;
}

bool Territory::take_at(PageRange wanted) noexcept {
  if (!range_.contains(wanted)) return false;
  const Locked locked(*this);
  const std::size_t i = first_ending_after(wanted.base);
  if (i == count_ || free_[i].begin > wanted.base || free_[i].end < wanted.end()) return false;
  remove(wanted);
  return true;
}

void Territory::claim(PageRange wanted) noexcept {
  const Locked locked(*this);
  remove(wanted);
}

void Territory::give_back(PageRange range) noexcept {
  const Locked locked(*this);
  remove(range);  // so that all of it is in use, and counted once
  taken_.fetch_sub(range.size_bytes(), std::memory_order_relaxed);
  Extent whole{range.base, range.end()};
  std::size_t i = first_ending_after(whole.begin);
  if (i < count_ && free_[i].begin == whole.end) {
    whole.end = free_[i].end;
    erase(i);
  }
  if (i > 0 && free_[i - 1].end == whole.begin) {
    free_[i - 1].end = whole.end;
    return;
  }
  static_cast<void>(insert(i, whole));
}

}  // namespace pagetrap::preload
