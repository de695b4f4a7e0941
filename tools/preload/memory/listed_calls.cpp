// As system_calls.cpp: the calls that all shims stand in front of.
#include "common/buffer_calls.hpp"
#include "common/exported.hpp"
#include "memory/buffers.hpp"
#include "memory/real_calls.hpp"

using namespace pagetrap::preload;

namespace {

Buffer reads(const void* at, std::size_t size) noexcept { return {at, at != nullptr ? size : 0}; }
Buffer writes(void* at, std::size_t size) noexcept { return reads(at, size); }
template <class T>
Buffer reads_one(const T* at) noexcept {
  return object(at);
}
template <class T>
Buffer writes_one(T* at) noexcept {
  return object(at);
}
// Addresses of sockets and values of options: of the buffer, no more is used.
Buffer writes_up_to(void* at, const socklen_t*) noexcept {
  return reads(at, sizeof(sockaddr_storage));
}
}  // namespace

#define PAGETRAP_CALL(result, name, throws, parameters, arguments, ...)   \
  static constinit Real<result parameters> real_##name(#name);            \
  PAGETRAP_EXPORT result name parameters throws {                         \
    return holding({__VA_ARGS__}, [&] { return real_##name arguments; }); \
  }
#include "common/buffer_calls.inc"
