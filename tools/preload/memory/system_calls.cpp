// System calls whose buffers must be in memory, where the kernel's own faults are not served. Else
// they go straight through.
//
// Not covered: what the C library calls by itself, with memory of the program's; ioctl(2) with
// pointers in structures; syscall(2), but for futex (waiting.cpp).
#include <algorithm>
#include <cerrno>

#include "common/buffer_calls.hpp"
#include "common/exported.hpp"
#include "memory/buffers.hpp"
#include "memory/real_calls.hpp"

using namespace pagetrap::preload;

static constinit Real<int(const char*, FILE*)> real_fputs("fputs");
PAGETRAP_EXPORT int fputs(const char* words, FILE* file) {
  return holding({text(words)}, [&] { return real_fputs(words, file); });
}

static constinit Real<int(const char*)> real_puts("puts");
PAGETRAP_EXPORT int puts(const char* words) {
  return holding({text(words)}, [&] { return real_puts(words); });
}

/// Servers ask for thousands of events, and get a few: where their array is pinned, no more than so
/// many. The next call tells of the others, as when there are more than fit.
static int events_at_once(int most) {
  constexpr int kMost = 128;
  return calls_are_held() ? std::min(most, kMost) : most;
}

static constinit Real<int(int, epoll_event*, int, int)> real_epoll_wait("epoll_wait");
PAGETRAP_EXPORT int epoll_wait(int epoll, epoll_event* events, int most, int timeout) {
  most = events_at_once(most);
  return holding({{events, sizeof(epoll_event) * static_cast<size_t>(most > 0 ? most : 0)}},
                 [&] { return real_epoll_wait(epoll, events, most, timeout); });
}

static constinit Real<int(int, epoll_event*, int, int, const sigset_t*)> real_epoll_pwait(
    "epoll_pwait");
PAGETRAP_EXPORT int epoll_pwait(int epoll, epoll_event* events, int most, int timeout,
                                const sigset_t* mask) {
  most = events_at_once(most);
  return holding(
      {{events, sizeof(epoll_event) * static_cast<size_t>(most > 0 ? most : 0)}, object(mask)},
      [&] { return real_epoll_pwait(epoll, events, most, timeout, mask); });
}

namespace {

constinit Real<ssize_t(int, void*, size_t)> real_read("read");
constinit Real<ssize_t(int, const void*, size_t)> real_write("write");
constinit Real<ssize_t(int, const iovec*, int)> real_readv("readv");
constinit Real<ssize_t(int, const iovec*, int)> real_writev("writev");
constinit Real<ssize_t(int, const iovec*, int, off64_t)> real_preadv("preadv64");
constinit Real<ssize_t(int, const iovec*, int, off64_t)> real_pwritev("pwritev64");
constinit Real<ssize_t(int, msghdr*, int)> real_recvmsg("recvmsg");
constinit Real<ssize_t(int, const msghdr*, int)> real_sendmsg("sendmsg");

constexpr size_t kPart = size_t{1} << 20;  // more is not held at once

bool is_regular(int file) {
  struct stat64 about {};
  return ::fstat64(file, &about) == 0 && S_ISREG(about.st_mode);
}

/// In parts of what can be held. Short counts are what callers of read and write live with, but
/// for regular files, where they expect none.
template <class Byte, class Call>
ssize_t in_parts(int file, Byte* bytes, size_t size, Call call) {
  if (size <= kPart || keeper == nullptr || !keeper->needs_holds() ||
      !keeper->territory.touches(bytes, size))
    return holding({{bytes, size}}, [&] { return call(bytes, size); });
  const bool whole = is_regular(file);
  size_t done = 0;
  while (done < size) {
    const size_t part = std::min(kPart, size - done);
    const ssize_t got = holding({{bytes + done, part}}, [&] { return call(bytes + done, part); });
    if (got < 0) return done != 0 ? static_cast<ssize_t>(done) : got;
    done += static_cast<size_t>(got);
    if (static_cast<size_t>(got) < part || !whole) break;
  }
  return static_cast<ssize_t>(done);
}

std::span<const iovec> parts_of(const iovec* parts, int count) {
  return {parts, static_cast<size_t>(parts != nullptr && count > 0 ? count : 0)};
}

std::span<const iovec> parts_of(const msghdr* message) {
  if (message == nullptr) return {};
  return {message->msg_iov, message->msg_iov != nullptr ? message->msg_iovlen : 0};
}

/// Name and control data of a message beside its parts.
template <class Message, class Call>
ssize_t with_message(Message* message, Call call) {
  if (message == nullptr) return call();
  return holding(parts_of(message), message, sizeof *message, [&] {
    return holding({{message->msg_name, message->msg_namelen},
                    {message->msg_control, message->msg_controllen}},
                   call);
  });
}

}  // namespace

PAGETRAP_EXPORT ssize_t read(int file, void* to, size_t size) {
  return in_parts(file, static_cast<char*>(to), size,
                  [&](char* at, size_t part) { return real_read(file, at, part); });
}
PAGETRAP_EXPORT ssize_t write(int file, const void* from, size_t size) {
  return in_parts(file, static_cast<const char*>(from), size,
                  [&](const char* at, size_t part) { return real_write(file, at, part); });
}
PAGETRAP_EXPORT ssize_t readv(int file, const iovec* parts, int count) {
  return holding(parts_of(parts, count), nullptr, 0,
                 [&] { return real_readv(file, parts, count); });
}
PAGETRAP_EXPORT ssize_t writev(int file, const iovec* parts, int count) {
  return holding(parts_of(parts, count), nullptr, 0,
                 [&] { return real_writev(file, parts, count); });
}
PAGETRAP_EXPORT ssize_t preadv(int file, const iovec* parts, int count, off_t at) {
  return holding(parts_of(parts, count), nullptr, 0,
                 [&] { return real_preadv(file, parts, count, at); });
}
PAGETRAP_EXPORT ssize_t preadv64(int file, const iovec* parts, int count, off64_t at) {
  return holding(parts_of(parts, count), nullptr, 0,
                 [&] { return real_preadv(file, parts, count, at); });
}
PAGETRAP_EXPORT ssize_t pwritev(int file, const iovec* parts, int count, off_t at) {
  return holding(parts_of(parts, count), nullptr, 0,
                 [&] { return real_pwritev(file, parts, count, at); });
}
PAGETRAP_EXPORT ssize_t pwritev64(int file, const iovec* parts, int count, off64_t at) {
  return holding(parts_of(parts, count), nullptr, 0,
                 [&] { return real_pwritev(file, parts, count, at); });
}
PAGETRAP_EXPORT ssize_t recvmsg(int socket, msghdr* message, int flags) {
  return with_message(message, [&] { return real_recvmsg(socket, message, flags); });
}
PAGETRAP_EXPORT ssize_t sendmsg(int socket, const msghdr* message, int flags) {
  return with_message(message, [&] { return real_sendmsg(socket, message, flags); });
}

// Many messages are more buffers than can be held at once: one after the other, as the kernel does.
// It keeps an error that comes after the first message for the next call, which we cannot; the
// message it was about is still sent or received again there.

namespace {

constinit Real<int(int, mmsghdr*, unsigned, int, timespec*)> real_recvmmsg("recvmmsg");
constinit Real<int(int, mmsghdr*, unsigned, int)> real_sendmmsg("sendmmsg");

/// The messages may be paged themselves.
template <class Call>
int each_message(mmsghdr* messages, unsigned count, Call call) {
  unsigned done = 0;
  for (; done < count; ++done) {
    const ssize_t got = call(messages[done].msg_hdr, done);
    if (got < 0) return done != 0 ? static_cast<int>(done) : -1;
    messages[done].msg_len = static_cast<unsigned>(got);
  }
  return static_cast<int>(done);
}

bool is_past(const timespec& end) {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec > end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec >= end.tv_nsec);
}

}  // namespace

PAGETRAP_EXPORT int sendmmsg(int socket, mmsghdr* messages, unsigned count, int flags) {
  if (!calls_are_held()) return real_sendmmsg(socket, messages, count, flags);
  return each_message(messages, count, [&](msghdr& message, unsigned) {
    return with_message(&message, [&] { return real_sendmsg(socket, &message, flags); });
  });
}

// SOURCE recvmmsg(2): MSG_WAITFORONE turns on MSG_DONTWAIT after the first message; the timeout is
// looked at after each.
PAGETRAP_EXPORT int recvmmsg(int socket, mmsghdr* messages, unsigned count, int flags,
                             timespec* timeout) {
  if (!calls_are_held()) return real_recvmmsg(socket, messages, count, flags, timeout);
  timespec end{};
  if (timeout != nullptr) {
    ::clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += timeout->tv_sec;
    end.tv_nsec += timeout->tv_nsec;
    if (end.tv_nsec >= 1'000'000'000) ++end.tv_sec, end.tv_nsec -= 1'000'000'000;
  }
  const bool waits_for_one = (flags & MSG_WAITFORONE) != 0;
  flags &= ~MSG_WAITFORONE;
  return each_message(messages, count, [&](msghdr& message, unsigned done) -> ssize_t {
    if (done != 0 && timeout != nullptr && is_past(end)) return -1;
    const int now = done != 0 && waits_for_one ? flags | MSG_DONTWAIT : flags;
    return with_message(&message, [&] { return real_recvmsg(socket, &message, now); });
  });
}

// stdio reads and writes large parts straight from and to the program's memory.

namespace {

using Read = size_t(void*, size_t, size_t, FILE*);
using Write = size_t(const void*, size_t, size_t, FILE*);
constinit Real<Read> real_fread("fread");
constinit Real<Read> real_fread_unlocked("fread_unlocked");
constinit Real<Write> real_fwrite("fwrite");
constinit Real<Write> real_fwrite_unlocked("fwrite_unlocked");

template <class Byte, class Call>
size_t items(Call& call, Byte* bytes, size_t size, size_t count, FILE* file) {
  size_t whole = 0;
  if (!calls_are_held() || __builtin_mul_overflow(size, count, &whole) ||
      !keeper->territory.touches(bytes, whole))
    return call(bytes, size, count, file);
  size_t done = 0;
  while (done < whole) {
    const size_t part = std::min(kPart, whole - done);
    const size_t got =
        holding({{bytes + done, part}}, [&] { return call(bytes + done, 1, part, file); });
    done += got;
    if (got < part) break;
  }
  return size != 0 ? done / size : 0;
}

}  // namespace

PAGETRAP_EXPORT size_t fread(void* to, size_t size, size_t count, FILE* file) {
  return items(real_fread, static_cast<char*>(to), size, count, file);
}
PAGETRAP_EXPORT size_t fread_unlocked(void* to, size_t size, size_t count, FILE* file) {
  return items(real_fread_unlocked, static_cast<char*>(to), size, count, file);
}
// NOLINTNEXTLINE(readability-identifier-naming,bugprone-reserved-identifier): not our name
PAGETRAP_EXPORT size_t __fread_chk(void* to, size_t room, size_t size, size_t count, FILE* file) {
  size_t whole = 0;
  if (__builtin_mul_overflow(size, count, &whole) || whole > room) ::abort();
  return items(real_fread, static_cast<char*>(to), size, count, file);
}
PAGETRAP_EXPORT size_t fwrite(const void* from, size_t size, size_t count, FILE* file) {
  return items(real_fwrite, static_cast<const char*>(from), size, count, file);
}
PAGETRAP_EXPORT size_t fwrite_unlocked(const void* from, size_t size, size_t count, FILE* file) {
  return items(real_fwrite_unlocked, static_cast<const char*>(from), size, count, file);
}
