// As system_calls.cpp: opening, with a mode if there is one.
#include "common/buffer_calls.hpp"
#include "common/exported.hpp"
#include "memory/buffers.hpp"
#include "memory/real_calls.hpp"

using namespace pagetrap::preload;

namespace {

constinit Real<int(int, const char*, int, ...)> real_openat("openat64");

int open_at(int folder, const char* path, int flags, mode_t mode) {
  return holding({text(path)}, [&] { return real_openat(folder, path, flags, mode); });
}

}  // namespace

PAGETRAP_EXPORT int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(AT_FDCWD, path, flags, mode);
}
PAGETRAP_EXPORT int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(AT_FDCWD, path, flags, mode);
}
PAGETRAP_EXPORT int openat(int folder, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(folder, path, flags, mode);
}
PAGETRAP_EXPORT int openat64(int folder, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(folder, path, flags, mode);
}
