// Buffers of system calls, where those into absent pages fail: held in memory for the call.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <span>

#include "memory/keeper.hpp"

namespace pagetrap::preload {

struct Buffer {
  const void* base = nullptr;
  std::size_t size = 0;
};

/// Brings every page of `range`, as a read does.
void touch(PageRange range) noexcept;

/// While all threads are held, and the region is there: what their calls use.
void hold_calls_under_way(Keeper& keeper) noexcept;

/// Holds buffers for a scope. Threads  its own only.
///
/// RACE the program's memory becomes a region while the call is under way, and the buffer absent:
/// so calls before that leave a record, whose buffers are pinned by whoever makes the region.
class Holds {
 public:
  static constexpr std::size_t kMost = 12;

  explicit Holds(std::initializer_list<Buffer> buffers) noexcept {
    begin();
    for (const Buffer& buffer : buffers) add(buffer);
    end_of_list();
  }
  explicit Holds(std::span<const iovec> buffers, const void* header = nullptr,
                 std::size_t header_size = 0) noexcept {
    begin();
    add({header, header_size});
    add({buffers.data(), buffers.size_bytes()});
    for (const iovec& buffer : buffers) add({buffer.iov_base, buffer.iov_len});
    end_of_list();
  }
  ~Holds() { release(); }
  Holds(const Holds&) = delete;
  Holds& operator=(const Holds&) = delete;

 private:
  void begin() noexcept;
  void add(const Buffer& buffer) noexcept;
  void end_of_list() noexcept;
  void release() noexcept;

  std::array<pager::Pin, kMost> pins_;
  std::size_t count_ = 0;
  CallRecord* record_ = nullptr;
};

/// Whether this thread's system calls would fail where their buffers are absent.
inline bool calls_are_held() noexcept {
  return keeper != nullptr && !own_work && keeper->needs_holds();
}

/// `call()`, with these held if that is needed here.
template <class Call>
auto holding(std::initializer_list<Buffer> buffers, Call call) {
  if (!calls_are_held()) return call();
  const Holds holds(buffers);
  return call();
}

template <class Call>
auto holding(std::span<const iovec> buffers, const void* header, std::size_t header_size,
             Call call) {
  if (!calls_are_held()) return call();
  const Holds holds(buffers, header, header_size);
  return call();
}

/// Of a string: its length is found by reading it.
inline Buffer text(const char* words) noexcept {
  const bool ours = words != nullptr && keeper != nullptr && keeper->active() &&
                    keeper->territory.contains(words);
  return ours ? Buffer{words, std::strlen(words) + 1} : Buffer{};
}

template <class T>
Buffer object(const T* one) noexcept {
  return {one, one != nullptr ? sizeof(T) : 0};
}

}  // namespace pagetrap::preload
