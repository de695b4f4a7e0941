// System calls whose buffers must be in memory, where the kernel's own faults are not served. Else
// they go straight through.
//
// Not covered: what the C library calls by itself, with memory of the program's; ioctl(2) with
// pointers in structures; syscall(2), but for futex (waiting.cpp).
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/exported.hpp"
#include "memory/buffers.hpp"
#include "memory/real_calls.hpp"

using namespace pagetrap::preload;

static constinit Real<ssize_t(int, void*, size_t, off64_t)> real_pread64("pread64");
PAGETRAP_EXPORT ssize_t pread64(int file, void* to, size_t size, off64_t at) {
  return holding({{to, size}}, [&] { return real_pread64(file, to, size, at); });
}

static constinit Real<ssize_t(int, void*, size_t, off_t)> real_pread("pread");
PAGETRAP_EXPORT ssize_t pread(int file, void* to, size_t size, off_t at) {
  return holding({{to, size}}, [&] { return real_pread(file, to, size, at); });
}

static constinit Real<ssize_t(int, void*, size_t, size_t)> real___read_chk("__read_chk");
PAGETRAP_EXPORT ssize_t __read_chk(int file, void* to, size_t size, size_t room) {
  return holding({{to, size}}, [&] { return real___read_chk(file, to, size, room); });
}

static constinit Real<ssize_t(int, void*, size_t, off_t, size_t)> real___pread_chk("__pread_chk");
PAGETRAP_EXPORT ssize_t __pread_chk(int file, void* to, size_t size, off_t at, size_t room) {
  return holding({{to, size}}, [&] { return real___pread_chk(file, to, size, at, room); });
}

static constinit Real<ssize_t(int, void*, size_t, off64_t, size_t)> real___pread64_chk(
    "__pread64_chk");
PAGETRAP_EXPORT ssize_t __pread64_chk(int file, void* to, size_t size, off64_t at, size_t room) {
  return holding({{to, size}}, [&] { return real___pread64_chk(file, to, size, at, room); });
}

static constinit Real<ssize_t(int, void*, size_t, int)> real_recv("recv");
PAGETRAP_EXPORT ssize_t recv(int socket, void* to, size_t size, int flags) {
  return holding({{to, size}}, [&] { return real_recv(socket, to, size, flags); });
}

static constinit Real<ssize_t(int, void*, size_t, size_t, int)> real___recv_chk("__recv_chk");
PAGETRAP_EXPORT ssize_t __recv_chk(int socket, void* to, size_t size, size_t room, int flags) {
  return holding({{to, size}}, [&] { return real___recv_chk(socket, to, size, room, flags); });
}

static constinit Real<ssize_t(int, void*, size_t, int, sockaddr*, socklen_t*)> real_recvfrom(
    "recvfrom");
PAGETRAP_EXPORT ssize_t recvfrom(int socket, void* to, size_t size, int flags, sockaddr* from,
                                 socklen_t* length) {
  return holding(
      {{to, size}, {from, from != nullptr ? sizeof(sockaddr_storage) : 0}, object(length)},
      [&] { return real_recvfrom(socket, to, size, flags, from, length); });
}

static constinit Real<ssize_t(int, void*, size_t, size_t, int, sockaddr*, socklen_t*)>
    real___recvfrom_chk("__recvfrom_chk");
PAGETRAP_EXPORT ssize_t __recvfrom_chk(int socket, void* to, size_t size, size_t room, int flags,
                                       sockaddr* from, socklen_t* length) {
  return holding(
      {{to, size}, {from, from != nullptr ? sizeof(sockaddr_storage) : 0}, object(length)},
      [&] { return real___recvfrom_chk(socket, to, size, room, flags, from, length); });
}

static constinit Real<ssize_t(int, const void*, size_t, int)> real_send("send");
PAGETRAP_EXPORT ssize_t send(int socket, const void* from, size_t size, int flags) {
  return holding({{from, size}}, [&] { return real_send(socket, from, size, flags); });
}

static constinit Real<ssize_t(int, const void*, size_t, int, const sockaddr*, socklen_t)>
    real_sendto("sendto");
PAGETRAP_EXPORT ssize_t sendto(int socket, const void* from, size_t size, int flags,
                               const sockaddr* to, socklen_t length) {
  return holding({{from, size}, {to, length}},
                 [&] { return real_sendto(socket, from, size, flags, to, length); });
}

static constinit Real<ssize_t(int, const void*, size_t, off64_t)> real_pwrite64("pwrite64");
PAGETRAP_EXPORT ssize_t pwrite64(int file, const void* from, size_t size, off64_t at) {
  return holding({{from, size}}, [&] { return real_pwrite64(file, from, size, at); });
}

static constinit Real<ssize_t(int, const void*, size_t, off_t)> real_pwrite("pwrite");
PAGETRAP_EXPORT ssize_t pwrite(int file, const void* from, size_t size, off_t at) {
  return holding({{from, size}}, [&] { return real_pwrite(file, from, size, at); });
}

static constinit Real<ssize_t(int, void*, size_t)> real_getdents64("getdents64");
PAGETRAP_EXPORT ssize_t getdents64(int file, void* to, size_t size) noexcept {
  return holding({{to, size}}, [&] { return real_getdents64(file, to, size); });
}

static constinit Real<ssize_t(void*, size_t, unsigned)> real_getrandom("getrandom");
PAGETRAP_EXPORT ssize_t getrandom(void* to, size_t size, unsigned flags) {
  return holding({{to, size}}, [&] { return real_getrandom(to, size, flags); });
}

static constinit Real<int(const char*, FILE*)> real_fputs("fputs");
PAGETRAP_EXPORT int fputs(const char* words, FILE* file) {
  return holding({text(words)}, [&] { return real_fputs(words, file); });
}

static constinit Real<int(const char*)> real_puts("puts");
PAGETRAP_EXPORT int puts(const char* words) {
  return holding({text(words)}, [&] { return real_puts(words); });
}

static constinit Real<int(pollfd*, nfds_t, int)> real_poll("poll");
PAGETRAP_EXPORT int poll(pollfd* files, nfds_t count, int timeout) {
  return holding({{files, count * sizeof(pollfd)}},
                 [&] { return real_poll(files, count, timeout); });
}

static constinit Real<int(pollfd*, nfds_t, int, size_t)> real___poll_chk("__poll_chk");
PAGETRAP_EXPORT int __poll_chk(pollfd* files, nfds_t count, int timeout, size_t room) {
  return holding({{files, count * sizeof(pollfd)}},
                 [&] { return real___poll_chk(files, count, timeout, room); });
}

static constinit Real<int(pollfd*, nfds_t, const timespec*, const sigset_t*)> real_ppoll("ppoll");
PAGETRAP_EXPORT int ppoll(pollfd* files, nfds_t count, const timespec* timeout,
                          const sigset_t* mask) {
  return holding({{files, count * sizeof(pollfd)}, object(timeout), object(mask)},
                 [&] { return real_ppoll(files, count, timeout, mask); });
}

static constinit Real<int(int, fd_set*, fd_set*, fd_set*, timeval*)> real_select("select");
PAGETRAP_EXPORT int select(int count, fd_set* in, fd_set* out, fd_set* other, timeval* timeout) {
  return holding({object(in), object(out), object(other), object(timeout)},
                 [&] { return real_select(count, in, out, other, timeout); });
}

static constinit Real<int(int, fd_set*, fd_set*, fd_set*, const timespec*, const sigset_t*)>
    real_pselect("pselect");
PAGETRAP_EXPORT int pselect(int count, fd_set* in, fd_set* out, fd_set* other,
                            const timespec* timeout, const sigset_t* mask) {
  return holding({object(in), object(out), object(other), object(timeout), object(mask)},
                 [&] { return real_pselect(count, in, out, other, timeout, mask); });
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

static constinit Real<int(int, int, int, epoll_event*)> real_epoll_ctl("epoll_ctl");
PAGETRAP_EXPORT int epoll_ctl(int epoll, int operation, int file, epoll_event* event) noexcept {
  return holding({object(event)}, [&] { return real_epoll_ctl(epoll, operation, file, event); });
}

static constinit Real<int(int, const sockaddr*, socklen_t)> real_connect("connect");
PAGETRAP_EXPORT int connect(int socket, const sockaddr* to, socklen_t length) {
  return holding({{to, length}}, [&] { return real_connect(socket, to, length); });
}

static constinit Real<int(int, const sockaddr*, socklen_t)> real_bind("bind");
PAGETRAP_EXPORT int bind(int socket, const sockaddr* to, socklen_t length) noexcept {
  return holding({{to, length}}, [&] { return real_bind(socket, to, length); });
}

static constinit Real<int(int, sockaddr*, socklen_t*)> real_accept("accept");
PAGETRAP_EXPORT int accept(int socket, sockaddr* from, socklen_t* length) {
  return holding({{from, from != nullptr ? sizeof(sockaddr_storage) : 0}, object(length)},
                 [&] { return real_accept(socket, from, length); });
}

static constinit Real<int(int, sockaddr*, socklen_t*, int)> real_accept4("accept4");
PAGETRAP_EXPORT int accept4(int socket, sockaddr* from, socklen_t* length, int flags) {
  return holding({{from, from != nullptr ? sizeof(sockaddr_storage) : 0}, object(length)},
                 [&] { return real_accept4(socket, from, length, flags); });
}

static constinit Real<int(int, sockaddr*, socklen_t*)> real_getsockname("getsockname");
PAGETRAP_EXPORT int getsockname(int socket, sockaddr* name, socklen_t* length) noexcept {
  return holding({{name, sizeof(sockaddr_storage)}, object(length)},
                 [&] { return real_getsockname(socket, name, length); });
}

static constinit Real<int(int, sockaddr*, socklen_t*)> real_getpeername("getpeername");
PAGETRAP_EXPORT int getpeername(int socket, sockaddr* name, socklen_t* length) noexcept {
  return holding({{name, sizeof(sockaddr_storage)}, object(length)},
                 [&] { return real_getpeername(socket, name, length); });
}

static constinit Real<int(int, int, int, void*, socklen_t*)> real_getsockopt("getsockopt");
PAGETRAP_EXPORT int getsockopt(int socket, int level, int name, void* value,
                               socklen_t* length) noexcept {
  return holding({{value, value != nullptr ? 1U : 0U}, object(length)},
                 [&] { return real_getsockopt(socket, level, name, value, length); });
}

static constinit Real<int(int, int, int, const void*, socklen_t)> real_setsockopt("setsockopt");
PAGETRAP_EXPORT int setsockopt(int socket, int level, int name, const void* value,
                               socklen_t length) noexcept {
  return holding({{value, length}},
                 [&] { return real_setsockopt(socket, level, name, value, length); });
}

static constinit Real<int(int*)> real_pipe("pipe");
PAGETRAP_EXPORT int pipe(int* ends) noexcept {
  return holding({{ends, 2 * sizeof(int)}}, [&] { return real_pipe(ends); });
}

static constinit Real<int(int*, int)> real_pipe2("pipe2");
PAGETRAP_EXPORT int pipe2(int* ends, int flags) noexcept {
  return holding({{ends, 2 * sizeof(int)}}, [&] { return real_pipe2(ends, flags); });
}

static constinit Real<int(int, int, int, int*)> real_socketpair("socketpair");
PAGETRAP_EXPORT int socketpair(int domain, int type, int protocol, int* ends) noexcept {
  return holding({{ends, 2 * sizeof(int)}},
                 [&] { return real_socketpair(domain, type, protocol, ends); });
}

// --- by hand ----------------------------------------------------------------------------------

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
