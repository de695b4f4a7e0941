#include "checkpoint/buffers.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

void Buffer::append(const BlockRun& run, const std::byte* from) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t length = bytes(Pages{run.pages});
  std::memcpy(data + used, from, length);
  used += length;
  if (used > peak) peak = used;
  if (run_count > 0) {
    BlockRun& last = runs[run_count - 1];
    if (last.region == run.region && last.first_page + last.pages == run.first_page) {
      last.pages += run.pages;
      return;
    }
  }
  runs[run_count++] = run;
}

Result<BufferPool> BufferPool::create(std::size_t count, std::size_t size_bytes) {
  BufferPool pool;
  sys::Mapping::Request request;
  request.size_bytes = count * size_bytes;
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  auto memory = sys::Mapping::create(request);
  if (!memory) return memory.error();
  pool.memory_ = std::move(*memory);
  // Every other page may be a run of its own.
  const std::size_t runs = size_bytes / page_size() / 2 + 1;
  request.size_bytes = bytes(pages_for(count * runs * sizeof(BlockRun)));
  auto run_memory = sys::Mapping::create(request);
  if (!run_memory) return run_memory.error();
  pool.run_memory_ = std::move(*run_memory);
  try {
    pool.buffers_.resize(count);
  } catch (const std::bad_alloc&) {
    return Error{"buffers of a checkpoint", ENOMEM};
  }
  for (std::size_t i = count; i-- > 0;) {
    pool.buffers_[i].data = pool.memory_.data() + i * size_bytes;
    pool.buffers_[i].capacity = size_bytes;
    pool.buffers_[i].runs = {reinterpret_cast<BlockRun*>(pool.run_memory_.data()) + i * runs, runs};
    pool.free_.push(pool.buffers_, static_cast<std::uint32_t>(i));
  }
  return pool;
}

// Before it is shared: the lists are rebuilt, since atomics do not move.
BufferPool::BufferPool(BufferPool&& other) noexcept
    : memory_(std::move(other.memory_)),
      run_memory_(std::move(other.run_memory_)),
      buffers_(std::move(other.buffers_)) {
  for (std::size_t i = buffers_.size(); i-- > 0;)
    free_.push(buffers_, static_cast<std::uint32_t>(i));
}

Buffer* BufferPool::take() noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint32_t index = free_.pop(buffers_);
  if (index == BufferStack::kNone) return nullptr;
  buffers_[index].clear();
  return &buffers_[index];
}

void BufferPool::give_back(Buffer& buffer) noexcept PAGETRAP_SIGNAL_SAFE {
  free_.push(buffers_, index_of(buffer));
}

void BufferPool::push_filled(Buffer& buffer) noexcept PAGETRAP_SIGNAL_SAFE {
  filled_.push(buffers_, index_of(buffer));
}

Buffer* BufferPool::pop_filled() noexcept PAGETRAP_SIGNAL_SAFE {
  const std::uint32_t index = filled_.pop(buffers_);
  return index == BufferStack::kNone ? nullptr : &buffers_[index];
}

std::size_t BufferPool::peak_bytes() const noexcept {
  std::size_t peak = 0;
  for (const Buffer& buffer : buffers_) peak += buffer.peak;
  return peak;
}

void BufferPool::make_ready(std::size_t size_bytes) noexcept {
  const PageRange all = memory_.range();
  // Where the kernel is older than 5.14, or has no memory, they come when they are used.
  static_cast<void>(sys::advise({all.base, pages_for(std::min(size_bytes, all.size_bytes()))},
                                MADV_POPULATE_WRITE));
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
