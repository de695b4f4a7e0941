// What every new image gets: an id and a time; and how long it took.
#pragma once

#include <sys/random.h>

#include <cerrno>
#include <chrono>
#include <cstdint>

#include <pagetrap/checkpoint/image.hpp>
#include <pagetrap/core/result.hpp>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

inline Result<ImageId> random_id() {
  ImageId id{};
  while (id == ImageId{}) {
    if (::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size()))
      return Error{"getrandom", errno};
  }
  return id;
}

/// Nanoseconds since 1970.
inline std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// Of sys::monotonic_nanoseconds().
inline double since_us(std::uint64_t started) {
  return static_cast<double>(sys::monotonic_nanoseconds() - started) / 1e3;
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
