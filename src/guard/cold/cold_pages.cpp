#include "guard/cold/cold_pages.hpp"

#include <sys/mman.h>

#include <cerrno>

#include "sys/memory_calls.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

Result<Done> ColdPages::begin(const Layout& layout, std::size_t hot_bytes) noexcept {
  const std::size_t slots = layout.slots(1);
  const std::size_t chunks = slots / Layout::slots_in_chunk(1);
  mapped_bytes_ = page_size() + (slots + chunks) * sizeof(Packed);
  void* const memory = sys::plain_mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return Error{"mmap of tables for cold pages", errno};
  if (auto begun = store.begin(); !begun) {
    static_cast<void>(sys::plain_munmap(memory, mapped_bytes_));
    return begun.error();
  }
  image = static_cast<std::byte*>(memory);
  words_ = reinterpret_cast<std::atomic<Packed>*>(image + page_size());
  hot_in_chunk_ = words_ + slots;
  budget_ = hot_bytes >> page_shift();
  pack_at_.store(budget_);
  return Done{};
}

void ColdPages::end() noexcept {
  if (!on()) return;
  store.end();
  static_cast<void>(sys::plain_munmap(image, mapped_bytes_));
  words_ = nullptr;
}

Packed ColdPages::claim(std::size_t slot) const noexcept {
  std::atomic<Packed>& word = words_[slot];
  for (;;) {
    Packed was = word.load(std::memory_order_acquire);
    if (was == kMoving) {
      sys::yield();
    } else if (word.compare_exchange_strong(was, kMoving, std::memory_order_acq_rel)) {
      return was;
    }
  }
}

void ColdPages::look_again(bool packed) noexcept {
  const std::size_t hot = hot_.load(std::memory_order_relaxed);
  pack_at_.store(packed ? budget_ : hot + budget_ / 8 + 256, std::memory_order_relaxed);
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
