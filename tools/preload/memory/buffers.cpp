#include "memory/buffers.hpp"

#include <atomic>

namespace pagetrap::preload {

/// What a thread's call uses, from before it until after it. Never freed; a thread keeps its own.
struct CallRecord {
  std::atomic<bool> in_use{false};
  std::array<Buffer, Holds::kMost> buffers{};
  std::atomic<std::size_t> count{0};
  std::array<pager::Pin, Holds::kMost> pins;
};

namespace {

constexpr std::size_t kRecords = 1024;  // calls of more threads at once are not protected
std::array<CallRecord, kRecords>& records() noexcept {
  static auto* const all = new std::array<CallRecord, kRecords>;
  return *all;
}

CallRecord* free_record() noexcept {
  static constinit thread_local std::size_t last = 0;
  auto& all = records();
  for (std::size_t tries = 0; tries < kRecords; ++tries) {
    CallRecord& record = all[(last + tries) % kRecords];
    if (record.in_use.load(std::memory_order_relaxed) || record.in_use.exchange(true)) continue;
    last = (last + tries) % kRecords;
    return &record;
  }
  return nullptr;
}

}  // namespace

void touch(PageRange range) noexcept {
  for (const std::byte* page = range.base; page < range.end(); page += page_size())
    static_cast<void>(*static_cast<const volatile std::byte*>(page));
}

void Holds::begin() noexcept {
  if (!keeper->active()) record_ = free_record();
}

void Holds::add(const Buffer& buffer) noexcept {
  if (buffer.size == 0 || !keeper->territory.touches(buffer.base, buffer.size)) return;
  if (count_ == kMost) {
    if (keeper->active()) touch(pages_covering(buffer.base, buffer.size));
    return;
  }
  if (record_ != nullptr) {
    record_->buffers[count_++] = buffer;
    record_->count.store(count_, std::memory_order_seq_cst);
  } else if (keeper->active()) {
    pins_[count_++] = keeper->hold(buffer.base, buffer.size);
  }
}

// Active only now: everything was recorded before that, and pinned there, or is pinned here.
void Holds::end_of_list() noexcept {
  if (record_ == nullptr || !keeper->active()) return;
  for (std::size_t i = 0; i < count_; ++i)
    pins_[i] = keeper->hold(record_->buffers[i].base, record_->buffers[i].size);
}

void Holds::release() noexcept {
  if (record_ == nullptr) return;
  record_->count.store(0, std::memory_order_seq_cst);
  for (std::size_t i = 0; i < count_; ++i) record_->pins[i].reset();
  record_->in_use.store(false, std::memory_order_release);
}

void hold_calls_under_way(Keeper& of) noexcept {
  for (CallRecord& record : records()) {
    const std::size_t count = record.count.load();
    for (std::size_t i = 0; i < count; ++i)
      record.pins[i] = of.hold(record.buffers[i].base, record.buffers[i].size);
  }
}

}  // namespace pagetrap::preload
