#include "guard/buffers.hpp"

#include <climits>
#include <cstring>

namespace pagetrap::preload {
namespace {

void check_text(guard::Engine& guards, const char* words, const char* call,
                const void* frame) noexcept {
  if (!guard::engine::owns(guards, words)) return;
  guard::engine::check_buffer(guards, words, 1, false, call, frame);
  // Where its block ends before it does, this very reading is the mistake.
  guard::engine::check_buffer(guards, words, std::strlen(words) + 1, false, call, frame);
}

}  // namespace

void check(std::initializer_list<Buffer> buffers, const char* call, const void* frame) noexcept {
  guard::Engine* const guards = the_heap.load(std::memory_order_relaxed);
  if (guards == nullptr) return;
  for (const Buffer& buffer : buffers) {
    if (buffer.base == nullptr) continue;
    std::size_t size = buffer.size;
    if (buffer.is_text) {
      check_text(*guards, static_cast<const char*>(buffer.base), call, frame);
      continue;
    }
    if (buffer.told_size != nullptr) size = *buffer.told_size;
    guard::engine::check_buffer(*guards, buffer.base, size, buffer.write, call, frame);
  }
}

void check_parts(const iovec* parts, std::size_t count, bool write, const char* call,
                 const void* frame) noexcept {
  if (parts == nullptr || count > IOV_MAX) return;
  check({reads(parts, sizeof(iovec) * count)}, call, frame);
  for (std::size_t i = 0; i < count; ++i)
    check({{parts[i].iov_base, parts[i].iov_len, write}}, call, frame);
}

void check_message(const msghdr* message, bool write, const char* call,
                   const void* frame) noexcept {
  if (message == nullptr) return;
  check({reads_one(message)}, call, frame);
  check({{message->msg_name, message->msg_namelen, write},
         {message->msg_control, message->msg_controllen, write}},
        call, frame);
  check_parts(message->msg_iov, message->msg_iovlen, write, call, frame);
}

}  // namespace pagetrap::preload
