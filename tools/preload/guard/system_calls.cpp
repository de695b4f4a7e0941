// System calls that read or write a buffer: the kernel's own access raises no fault, the call fails
// with EFAULT or is cut short, and nobody would know. So the buffer is looked at before.
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/exported.hpp"
#include "common/real.hpp"
#include "guard/heap.hpp"

using namespace pagetrap::preload;

namespace {

constexpr bool kReads = false;  // the call reads the buffer
constexpr bool kWrites = true;  // the call writes it

void check(const void* buffer, std::size_t size, bool write, const char* call,
           const void* frame) noexcept {
  pagetrap::guard::Engine* const guards = the_heap.load(std::memory_order_relaxed);
  if (guards == nullptr) return;
  // Only its address is looked at; g++ takes a buffer that a call is to fill for one that is read.
  asm("" : "+r"(buffer));
  pagetrap::guard::engine::check_buffer(*guards, buffer, size, write, call, frame);
}

void check_vector(const iovec* parts, int count, bool write, const char* call,
                  const void* frame) noexcept {
  if (count <= 0) return;
  check(parts, sizeof(iovec) * static_cast<std::size_t>(count), kReads, call, frame);
  for (int i = 0; i < count; ++i) check(parts[i].iov_base, parts[i].iov_len, write, call, frame);
}

void check_message(const msghdr* message, bool write, const char* call,
                   const void* frame) noexcept {
  check(message, sizeof *message, kReads, call, frame);
  check_vector(message->msg_iov, static_cast<int>(message->msg_iovlen), write, call, frame);
  check(message->msg_control, message->msg_controllen, write, call, frame);
}

}  // namespace

#define HERE __builtin_frame_address(0)

static constinit Real<ssize_t(int, void*, size_t)> real_read("read");
PAGETRAP_EXPORT ssize_t read(int file, void* to, size_t size) {
  check(to, size, kWrites, "read", HERE);
  return real_read(file, to, size);
}
static constinit Real<ssize_t(int, void*, size_t, size_t)> real___read_chk("__read_chk");
PAGETRAP_EXPORT ssize_t __read_chk(int file, void* to, size_t size, size_t room) {
  check(to, size, kWrites, "read", HERE);
  return real___read_chk(file, to, size, room);
}
static constinit Real<ssize_t(int, const void*, size_t)> real_write("write");
PAGETRAP_EXPORT ssize_t write(int file, const void* from, size_t size) {
  check(from, size, kReads, "write", HERE);
  return real_write(file, from, size);
}
static constinit Real<ssize_t(int, void*, size_t, off64_t)> real_pread64("pread64");
PAGETRAP_EXPORT ssize_t pread64(int file, void* to, size_t size, off64_t at) {
  check(to, size, kWrites, "pread", HERE);
  return real_pread64(file, to, size, at);
}
static constinit Real<ssize_t(int, void*, size_t, off_t)> real_pread("pread");
PAGETRAP_EXPORT ssize_t pread(int file, void* to, size_t size, off_t at) {
  check(to, size, kWrites, "pread", HERE);
  return real_pread(file, to, size, at);
}
static constinit Real<ssize_t(int, const void*, size_t, off64_t)> real_pwrite64("pwrite64");
PAGETRAP_EXPORT ssize_t pwrite64(int file, const void* from, size_t size, off64_t at) {
  check(from, size, kReads, "pwrite", HERE);
  return real_pwrite64(file, from, size, at);
}
static constinit Real<ssize_t(int, const void*, size_t, off_t)> real_pwrite("pwrite");
PAGETRAP_EXPORT ssize_t pwrite(int file, const void* from, size_t size, off_t at) {
  check(from, size, kReads, "pwrite", HERE);
  return real_pwrite(file, from, size, at);
}
static constinit Real<ssize_t(int, const iovec*, int)> real_readv("readv");
PAGETRAP_EXPORT ssize_t readv(int file, const iovec* parts, int count) {
  check_vector(parts, count, kWrites, "readv", HERE);
  return real_readv(file, parts, count);
}
static constinit Real<ssize_t(int, const iovec*, int)> real_writev("writev");
PAGETRAP_EXPORT ssize_t writev(int file, const iovec* parts, int count) {
  check_vector(parts, count, kReads, "writev", HERE);
  return real_writev(file, parts, count);
}
static constinit Real<ssize_t(int, void*, size_t, int)> real_recv("recv");
PAGETRAP_EXPORT ssize_t recv(int socket, void* to, size_t size, int flags) {
  check(to, size, kWrites, "recv", HERE);
  return real_recv(socket, to, size, flags);
}
static constinit Real<ssize_t(int, void*, size_t, size_t, int)> real___recv_chk("__recv_chk");
PAGETRAP_EXPORT ssize_t __recv_chk(int socket, void* to, size_t size, size_t room, int flags) {
  check(to, size, kWrites, "recv", HERE);
  return real___recv_chk(socket, to, size, room, flags);
}
static constinit Real<ssize_t(int, void*, size_t, int, sockaddr*, socklen_t*)> real_recvfrom(
    "recvfrom");
PAGETRAP_EXPORT ssize_t recvfrom(int socket, void* to, size_t size, int flags, sockaddr* from,
                                 socklen_t* length) {
  check(to, size, kWrites, "recvfrom", HERE);
  if (length != nullptr) {
    check(length, sizeof *length, kWrites, "recvfrom", HERE);
    check(from, *length, kWrites, "recvfrom", HERE);
  }
  return real_recvfrom(socket, to, size, flags, from, length);
}
static constinit Real<ssize_t(int, msghdr*, int)> real_recvmsg("recvmsg");
PAGETRAP_EXPORT ssize_t recvmsg(int socket, msghdr* message, int flags) {
  check_message(message, kWrites, "recvmsg", HERE);
  return real_recvmsg(socket, message, flags);
}
static constinit Real<ssize_t(int, const void*, size_t, int)> real_send("send");
PAGETRAP_EXPORT ssize_t send(int socket, const void* from, size_t size, int flags) {
  check(from, size, kReads, "send", HERE);
  return real_send(socket, from, size, flags);
}
static constinit Real<ssize_t(int, const void*, size_t, int, const sockaddr*, socklen_t)>
    real_sendto("sendto");
PAGETRAP_EXPORT ssize_t sendto(int socket, const void* from, size_t size, int flags,
                               const sockaddr* to, socklen_t length) {
  check(from, size, kReads, "sendto", HERE);
  if (to != nullptr) check(to, length, kReads, "sendto", HERE);
  return real_sendto(socket, from, size, flags, to, length);
}
static constinit Real<ssize_t(int, const msghdr*, int)> real_sendmsg("sendmsg");
PAGETRAP_EXPORT ssize_t sendmsg(int socket, const msghdr* message, int flags) {
  check_message(message, kReads, "sendmsg", HERE);
  return real_sendmsg(socket, message, flags);
}
static constinit Real<char*(char*, size_t)> real_getcwd("getcwd");
PAGETRAP_EXPORT char* getcwd(char* to, size_t size) noexcept {
  if (to != nullptr) check(to, size, kWrites, "getcwd", HERE);
  return real_getcwd(to, size);
}
static constinit Real<ssize_t(const char*, char*, size_t)> real_readlink("readlink");
PAGETRAP_EXPORT ssize_t readlink(const char* path, char* to, size_t size) noexcept {
  check(to, size, kWrites, "readlink", HERE);
  return real_readlink(path, to, size);
}
static constinit Real<ssize_t(void*, size_t, unsigned)> real_getrandom("getrandom");
PAGETRAP_EXPORT ssize_t getrandom(void* to, size_t size, unsigned flags) {
  check(to, size, kWrites, "getrandom", HERE);
  return real_getrandom(to, size, flags);
}
// The C library reads into, and writes from, large buffers directly.
static constinit Real<size_t(void*, size_t, size_t, FILE*)> real_fread("fread");
PAGETRAP_EXPORT size_t fread(void* to, size_t size, size_t count, FILE* file) {
  check(to, size * count, kWrites, "fread", HERE);
  return real_fread(to, size, count, file);
}
static constinit Real<size_t(const void*, size_t, size_t, FILE*)> real_fwrite("fwrite");
PAGETRAP_EXPORT size_t fwrite(const void* from, size_t size, size_t count, FILE* file) {
  check(from, size * count, kReads, "fwrite", HERE);
  return real_fwrite(from, size, count, file);
}
