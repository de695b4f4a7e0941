#include "vm/page_states.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>

#include "sys/pagemap.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/process_files.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

// Bytes stored as words where a range is long: 1 GiB of pages is 32,768 stores instead of 262,144.
constexpr std::size_t kWord = sizeof(std::uint64_t);
constexpr std::uint64_t kEachByte = 0x0101010101010101U;

}  // namespace

PageStates& PageStates::operator=(PageStates&& other) noexcept {
  memory_ = std::move(other.memory_);
  const bool is_inline = other.bytes_ == other.inline_bytes_.data();
  for (std::size_t i = 0; i < kInline; ++i) inline_bytes_[i].store(other.inline_bytes_[i].load());
  bytes_ = std::exchange(other.bytes_, nullptr);
  if (is_inline) bytes_ = inline_bytes_.data();
  first_ = std::exchange(other.first_, 0);
  initial_.store(other.initial(), std::memory_order_relaxed);
  epoch_.store(other.epoch(), std::memory_order_relaxed);
  return *this;
}

void PageStates::reset(PageState state) noexcept {
  // RACE a reader between the steps decodes an untouched byte as the new state already, and a
  // touched one as the old: both are states the page had around this call.
  initial_.store(state, std::memory_order_release);
  if (epoch() + 1 < kEpochs) {
    epoch_.store(static_cast<std::uint8_t>(epoch() + 1), std::memory_order_release);
    return;
  }
  for (auto& byte : inline_bytes_) byte.store(0, std::memory_order_relaxed);
  // If the memory cannot be given back the bytes are cleared one by one.
  if (!memory_.range().empty() && sys::advise(memory_.range(), MADV_DONTNEED) != 0)
    std::fill_n(reinterpret_cast<std::byte*>(bytes_), memory_.range().size_bytes(), std::byte{});
  epoch_.store(0, std::memory_order_release);
}

Result<PageStates> PageStates::create(PageRange range, PageState initial) {
  PageStates states;
  states.first_ = reinterpret_cast<std::uintptr_t>(range.base);
  states.initial_.store(initial, std::memory_order_relaxed);
  states.bytes_ = states.inline_bytes_.data();
  if (range.length.count() <= kInline) return states;
  sys::Mapping::Request request;
  request.size_bytes = bytes(pages_for(range.length.count()));
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  auto memory = sys::Mapping::create(request);
  if (!memory) return memory.error();
  states.memory_ = std::move(*memory);
  sys::name_mapping(states.memory_.range(), "pagetrap:states");
  states.bytes_ = reinterpret_cast<std::atomic<std::uint8_t>*>(states.memory_.data());
  return states;
}

[[gnu::hot]] void PageStates::set(PageRange range, PageState state) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint8_t byte = encode(state);
  std::size_t index = index_of(range.base);
  const std::size_t end = index + range.length.count();
  for (; index < end && index % kWord != 0; ++index)
    bytes_[index].store(byte, std::memory_order_release);
  for (; index + kWord <= end; index += kWord)
    std::atomic_ref<std::uint64_t>(reinterpret_cast<std::uint64_t&>(bytes_[index]))
        .store(kEachByte * byte, std::memory_order_release);
  for (; index < end; ++index) bytes_[index].store(byte, std::memory_order_release);
}

[[gnu::hot]] PageRange PageStates::run(std::byte* from, const std::byte* end) const noexcept
    PAGETRAP_SIGNAL_SAFE {
  const PageState state = get(from);
  const std::size_t first = index_of(from);
  const std::size_t last = first + (static_cast<std::size_t>(end - from) >> page_shift());
  std::size_t index = first + 1;
  while (index < last) {
    // Bytes that are equal mean the same, whatever they mean.
    if (index % kWord == 0 && index + kWord <= last &&
        word_at(index) == kEachByte * bytes_[index - 1].load(std::memory_order_relaxed)) {
      index += kWord;
      continue;
    }
    if (decode(bytes_[index].load(std::memory_order_relaxed)) != state) break;
    ++index;
  }
  return {from, Pages{index - first}};
}

bool PageStates::claim(const void* page, PageState expected) noexcept PAGETRAP_SIGNAL_SAFE {
  std::atomic<std::uint8_t>& byte = byte_of(page);
  std::uint8_t current = byte.load(std::memory_order_acquire);
  while (current != claim_byte() && decode(current) == expected) {
    if (byte.compare_exchange_weak(current, claim_byte(), std::memory_order_acq_rel)) return true;
  }
  return false;
}

std::byte* PageStates::first_claimed(std::byte* from, std::byte* end) const noexcept {
  while (from < end) {
    from = first_changed(from, end);
    // As far as this page of the table goes.
    const std::size_t left = page_size() - (index_of(from) & (page_size() - 1));
    const std::byte* const known = std::min(end, from + bytes(Pages{left}));
    for (; from < known; from += page_size())
      if (claimed(from)) return from;
  }
  return end;
}

std::byte* PageStates::first_changed(std::byte* from, std::byte* end) const noexcept {
  // A page of the table that was never written is not there. Each stands for 4096 pages of the
  // region.
  if (memory_.range().empty() || from >= end) return from;
  const std::size_t index = index_of(from);
  std::byte* const table = memory_.data();
  std::byte* const first = page_of(table + index).base;
  const std::byte* const last = page_of(table + index_of(end) - 1).base;
  const PageRange part{first, pages_for(static_cast<std::size_t>(last - first) + page_size())};
  std::byte* const there = sys::first_present(pagemap_descriptor(), part);
  const auto found = static_cast<std::size_t>(there - table);
  if (found <= index) return from;
  return std::min(end, reinterpret_cast<std::byte*>(first_ + bytes(Pages{found})));
}

}  // namespace v0
}  // namespace pagetrap
