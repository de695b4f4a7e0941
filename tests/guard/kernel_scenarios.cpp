// Mistakes in the buffers of system calls.
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "scenarios.hpp"

namespace {

struct Pair {
  std::array<int, 2> ends{};
  Pair() {
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) != 0) std::abort();
    const std::array<char, 200> words{};
    if (write(ends[0], words.data(), words.size()) != 200) std::abort();
  }
};

void read_over(bool good) {
  const Pair pair;
  char* const to = make(40);
  if (read(pair.ends[1], to, good ? 40 : 100) < 0) std::abort();
  drop(to);
}
void read_freed(bool good) {
  const Pair pair;
  char* const to = make(40);
  if (!good) drop(to);
  if (read(pair.ends[1], to, 40) < 0) std::abort();
  if (good) drop(to);
}
void recv_over(bool good) {
  const Pair pair;
  char* const to = make(40);
  if (recv(pair.ends[1], to, good ? 40 : 100, 0) < 0) std::abort();
  drop(to);
}
void readv_over(bool good) {
  const Pair pair;
  char* const to = make(40);
  char* const more = make(8);
  const std::array<iovec, 2> parts{{{more, 8}, {to, good ? 40U : 60U}}};
  if (readv(pair.ends[1], parts.data(), 2) < 0) std::abort();
  drop(to);
  drop(more);
}
void write_freed(bool good) {
  const Pair pair;
  char* const from = make(40);
  if (!good) drop(from);
  if (write(pair.ends[1], from, 40) < 0) std::abort();
  if (good) drop(from);
}

void pread_over(bool good) {
  const int file = open("/proc/self/exe", O_RDONLY);
  char* const to = make(40);
  if (pread(file, to, good ? 40 : 100, 0) < 0) std::abort();
  drop(to);
}
void sendmsg_over(bool good) {
  const Pair pair;
  char* const from = make(40);
  iovec part{from, good ? 40U : 60U};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (sendmsg(pair.ends[0], &message, 0) < 0) std::abort();
  drop(from);
}
void getsockname_over(bool good) {
  const Pair pair;
  auto* const to = reinterpret_cast<sockaddr*>(make(12));
  socklen_t size = good ? 12 : 16;
  if (getsockname(pair.ends[0], to, &size) != 0) std::abort();
  drop(to);
}
void poll_over(bool good) {
  auto* const files = static_cast<pollfd*>(std::calloc(2, sizeof(pollfd)));
  if (poll(files, good ? 2 : 3, 0) < 0) std::abort();
  drop(files);
}
// Sets may be as short as the highest file needs.
void select_freed(bool good) {
  auto* const files = static_cast<fd_set*>(std::calloc(1, sizeof(long)));
  if (!good) drop(files);
  timeval none{};
  if (select(10, files, nullptr, nullptr, &none) < 0) std::abort();
  if (good) drop(files);
}
void stat_over(bool good) {
  auto* const to = reinterpret_cast<struct stat*>(make(good ? sizeof(struct stat) : 100));
  if (stat("/", to) != 0) std::abort();
  drop(to);
}
void open_freed(bool good) {
  char* const path = make(20);
  std::strcpy(path, "/no/such/file");
  if (!good) drop(path);
  if (open(path, O_RDONLY) != -1 || errno != ENOENT) std::abort();
  if (good) drop(path);
}
void unlink_without_end(bool good) {
  char* const path = make(16);
  if (good) path[15] = '\0';
  if (unlink(path) != -1 || errno != ENOENT) std::abort();
  drop(path);
}
void raw_read_over(bool good) {
  const Pair pair;
  char* const to = make(40);
  if (syscall(SYS_read, pair.ends[1], to, good ? 40UL : 100UL) < 0) std::abort();
  drop(to);
}
void raw_writev_freed(bool good) {
  const Pair pair;
  char* const from = make(40);
  const iovec part{from, 40};
  if (!good) drop(from);
  if (syscall(SYS_writev, pair.ends[1], &part, 1UL) < 0) std::abort();
  if (good) drop(from);
}
void ioctl_over(bool good) {
  const Pair pair;
  char* const to = make(good ? 8 : 4);
  if (ioctl(pair.ends[0], BLKGETSIZE64, to) != -1 || errno != ENOTTY) std::abort();
  drop(to);
}
// The request says long, and an int is meant.
void ioctl_of_flags(bool) {
  const int folder = open("/tmp", O_RDONLY | O_DIRECTORY);
  char* const to = make(sizeof(int));
  static_cast<void>(ioctl(folder, FS_IOC_GETFLAGS, to));
  static_cast<void>(ioctl(folder, FIONREAD, to));
  drop(to);
}
// The kernel ignores the event.
void epoll_without_event(bool) {
  const Pair pair;
  const int epoll = epoll_create1(0);
  epoll_event event{};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, pair.ends[0], &event) != 0) std::abort();
  char* const stale = make(12);
  drop(stale);
  auto* const nothing = reinterpret_cast<epoll_event*>(stale);
  if (epoll_ctl(epoll, EPOLL_CTL_DEL, pair.ends[0], nothing) != 0) std::abort();
}

}  // namespace

Scenarios kernel_scenarios() {
  return {
      {"read_over", read_over},
      {"read_freed", read_freed},
      {"recv_over", recv_over},
      {"readv_over", readv_over},
      {"write_freed", write_freed},
      {"pread_over", pread_over},
      {"sendmsg_over", sendmsg_over},
      {"getsockname_over", getsockname_over},
      {"poll_over", poll_over},
      {"select_freed", select_freed},
      {"stat_over", stat_over},
      {"open_freed", open_freed},
      {"unlink_without_end", unlink_without_end},
      {"raw_read_over", raw_read_over},
      {"raw_writev_freed", raw_writev_freed},
      {"ioctl_over", ioctl_over},
      {"ioctl_of_flags", ioctl_of_flags},
      {"epoll_without_event", epoll_without_event},
  };
}
