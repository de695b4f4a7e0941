// Buffers of system calls: looked at before the call, since the kernel's own access raises no
// fault. The call would fail with EFAULT or be cut short, and nobody would know.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <string_view>

#include "guard/heap.hpp"

namespace pagetrap::preload {

struct Buffer {
  const void* base = nullptr;
  std::size_t size = 0;
  bool write = false;                    // the kernel writes it
  bool is_text = false;                  // its size is found by reading it
  const socklen_t* told_size = nullptr;  // or is there
};

// GCC takes a buffer that a call is to fill for one that is read: only its address is looked at.
template <class T>
const void* address(T* at) noexcept {
  const void* plain = at;
  asm("" : "+r"(plain));
  return plain;
}

inline Buffer reads(const void* at, std::size_t size) noexcept { return {at, size}; }
inline Buffer writes(const void* at, std::size_t size) noexcept {
  return {address(at), size, true};
}
template <class T>
Buffer reads_one(const T* at) noexcept {
  return {at, sizeof(T)};
}
template <class T>
Buffer writes_one(const T* at) noexcept {
  return {address(at), sizeof(T), true};
}
inline Buffer writes_up_to(const void* at, const socklen_t* size) noexcept {
  return {address(at), 0, true, false, size};
}
inline Buffer text(const char* at) noexcept { return {at, 0, false, true}; }

/// A function's name as programs write it: "read" for "__read_chk".
template <std::size_t N>
struct CallName {
  char plain[N]{};
  consteval explicit CallName(const char (&words)[N]) noexcept {
    std::string_view whole(words, N - 1);
    if (whole.starts_with("__") && whole.ends_with("_chk")) {
      whole.remove_prefix(2);
      whole.remove_suffix(4);
    }
    std::copy(whole.begin(), whole.end(), plain);
  }
};

/// Reports what a call would do to guarded memory. `frame`: of the function in front of it.
void check(std::initializer_list<Buffer> buffers, const char* call, const void* frame) noexcept;
/// Of the parts, and of the list itself.
void check_parts(const iovec* parts, std::size_t count, bool write, const char* call,
                 const void* frame) noexcept;
void check_message(const msghdr* message, bool write, const char* call, const void* frame) noexcept;

}  // namespace pagetrap::preload

#define PAGETRAP_HERE __builtin_frame_address(0)
