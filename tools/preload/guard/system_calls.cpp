// System calls by way of the C library, in front of which we look at buffers.
#include <stdarg.h>

#include "common/buffer_calls.hpp"
#include "common/exported.hpp"
#include "common/real.hpp"
#include "guard/buffers.hpp"

using namespace pagetrap::preload;

namespace {

// Of what is in no list: calls with parts and messages, and those that the other shim changes.
#define PAGETRAP_CALL(result, name, throws, parameters, arguments, ...) \
  static constinit Real<result parameters> real_##name(#name);          \
  PAGETRAP_EXPORT result name parameters throws {                       \
    static constexpr CallName kName(#name);                             \
    check({__VA_ARGS__}, kName.plain, PAGETRAP_HERE);                   \
    return real_##name arguments;                                       \
  }
#define PAGETRAP_PARTS_CALL(name, parameters, arguments, write)            \
  static constinit Real<ssize_t parameters> real_##name(#name);            \
  PAGETRAP_EXPORT ssize_t name parameters {                                \
    const auto how_many = static_cast<std::size_t>(count < 0 ? 0 : count); \
    check_parts(parts, how_many, write, #name, PAGETRAP_HERE);             \
    return real_##name arguments;                                          \
  }

constexpr bool kReads = false;
constexpr bool kWrites = true;

}  // namespace

#include "common/buffer_calls.inc"

PAGETRAP_CALL(ssize_t, read, , (int file, void* to, size_t size), (file, to, size),
              writes(to, size))
PAGETRAP_CALL(ssize_t, write, , (int file, const void* from, size_t size), (file, from, size),
              reads(from, size))
PAGETRAP_CALL(int, epoll_wait, , (int epoll, epoll_event* events, int most, int timeout),
              (epoll, events, most, timeout),
              writes(events, sizeof(epoll_event) * static_cast<size_t>(most > 0 ? most : 0)))
PAGETRAP_CALL(int, epoll_pwait, ,
              (int epoll, epoll_event* events, int most, int timeout, const sigset_t* mask),
              (epoll, events, most, timeout, mask),
              writes(events, sizeof(epoll_event) * static_cast<size_t>(most > 0 ? most : 0)),
              reads(mask, kSignalSetBytes))

// --- parts and messages --------------------------------------------------------------------------

PAGETRAP_PARTS_CALL(readv, (int file, const iovec* parts, int count), (file, parts, count), kWrites)
PAGETRAP_PARTS_CALL(writev, (int file, const iovec* parts, int count), (file, parts, count), kReads)
PAGETRAP_PARTS_CALL(preadv, (int file, const iovec* parts, int count, off_t at),
                    (file, parts, count, at), kWrites)
PAGETRAP_PARTS_CALL(preadv64, (int file, const iovec* parts, int count, off64_t at),
                    (file, parts, count, at), kWrites)
PAGETRAP_PARTS_CALL(preadv2, (int file, const iovec* parts, int count, off_t at, int flags),
                    (file, parts, count, at, flags), kWrites)
PAGETRAP_PARTS_CALL(preadv64v2, (int file, const iovec* parts, int count, off64_t at, int flags),
                    (file, parts, count, at, flags), kWrites)
PAGETRAP_PARTS_CALL(pwritev, (int file, const iovec* parts, int count, off_t at),
                    (file, parts, count, at), kReads)
PAGETRAP_PARTS_CALL(pwritev64, (int file, const iovec* parts, int count, off64_t at),
                    (file, parts, count, at), kReads)
PAGETRAP_PARTS_CALL(pwritev2, (int file, const iovec* parts, int count, off_t at, int flags),
                    (file, parts, count, at, flags), kReads)
PAGETRAP_PARTS_CALL(pwritev64v2, (int file, const iovec* parts, int count, off64_t at, int flags),
                    (file, parts, count, at, flags), kReads)

static constinit Real<ssize_t(int, msghdr*, int)> real_recvmsg("recvmsg");
PAGETRAP_EXPORT ssize_t recvmsg(int socket, msghdr* message, int flags) {
  check_message(message, kWrites, "recvmsg", PAGETRAP_HERE);
  return real_recvmsg(socket, message, flags);
}
static constinit Real<ssize_t(int, const msghdr*, int)> real_sendmsg("sendmsg");
PAGETRAP_EXPORT ssize_t sendmsg(int socket, const msghdr* message, int flags) {
  check_message(message, kReads, "sendmsg", PAGETRAP_HERE);
  return real_sendmsg(socket, message, flags);
}
static constinit Real<int(int, mmsghdr*, unsigned, int, timespec*)> real_recvmmsg("recvmmsg");
PAGETRAP_EXPORT int recvmmsg(int socket, mmsghdr* messages, unsigned count, int flags,
                             timespec* timeout) {
  check({writes(messages, count * sizeof *messages), writes_one(timeout)}, "recvmmsg",
        PAGETRAP_HERE);
  for (unsigned i = 0; messages != nullptr && i < count; ++i)
    check_message(&messages[i].msg_hdr, kWrites, "recvmmsg", PAGETRAP_HERE);
  return real_recvmmsg(socket, messages, count, flags, timeout);
}
static constinit Real<int(int, mmsghdr*, unsigned, int)> real_sendmmsg("sendmmsg");
PAGETRAP_EXPORT int sendmmsg(int socket, mmsghdr* messages, unsigned count, int flags) {
  check({writes(messages, count * sizeof *messages)}, "sendmmsg", PAGETRAP_HERE);
  for (unsigned i = 0; messages != nullptr && i < count; ++i)
    check_message(&messages[i].msg_hdr, kReads, "sendmmsg", PAGETRAP_HERE);
  return real_sendmmsg(socket, messages, count, flags);
}

// --- the C library reads into, and writes from, large buffers directly
// -----------------------------

PAGETRAP_CALL(size_t, fread, , (void* to, size_t size, size_t count, FILE* file),
              (to, size, count, file), writes(to, size* count))
PAGETRAP_CALL(size_t, fread_unlocked, , (void* to, size_t size, size_t count, FILE* file),
              (to, size, count, file), writes(to, size* count))
PAGETRAP_CALL(size_t, __fread_chk, , (void* to, size_t room, size_t size, size_t count, FILE* file),
              (to, room, size, count, file), writes(to, size* count))
PAGETRAP_CALL(size_t, fwrite, , (const void* from, size_t size, size_t count, FILE* file),
              (from, size, count, file), reads(from, size* count))
PAGETRAP_CALL(size_t, fwrite_unlocked, , (const void* from, size_t size, size_t count, FILE* file),
              (from, size, count, file), reads(from, size* count))

// --- with a mode, if there is one ----------------------------------------------------------------

namespace {

constinit Real<int(const char*, int, ...)> real_open("open");
constinit Real<int(const char*, int, ...)> real_open64("open64");
constinit Real<int(int, const char*, int, ...)> real_openat("openat");
constinit Real<int(int, const char*, int, ...)> real_openat64("openat64");

}  // namespace

#define PAGETRAP_OPEN(name, parameters, arguments) \
  PAGETRAP_EXPORT int name parameters {            \
    check({text(path)}, #name, PAGETRAP_HERE);     \
    va_list rest;                                  \
    va_start(rest, flags);                         \
    const mode_t mode = mode_of(flags, rest);      \
    va_end(rest);                                  \
    return real_##name arguments;                  \
  }
PAGETRAP_OPEN(open, (const char* path, int flags, ...), (path, flags, mode))
PAGETRAP_OPEN(open64, (const char* path, int flags, ...), (path, flags, mode))
PAGETRAP_OPEN(openat, (int folder, const char* path, int flags, ...), (folder, path, flags, mode))
PAGETRAP_OPEN(openat64, (int folder, const char* path, int flags, ...), (folder, path, flags, mode))
