// Files and mappings that no image can have.
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "stage.hpp"

namespace subject {
namespace {

constexpr std::size_t kPage = 4096;

std::string fd(int number) { return "fd " + std::to_string(number) + ": "; }

int open_file(const std::string& path, int flags) {
  return static_cast<int>(must(::open(path.c_str(), flags, 0600), path.c_str()));
}

// As the refusal has it: from and to.
std::string mapping_at(const void* at) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    unsigned long start = 0;
    unsigned long end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx", &start, &end) != 2) continue;
    if (start != reinterpret_cast<unsigned long>(at)) continue;
    std::array<char, 64> words{};
    std::snprintf(words.data(), words.size(), "mapping 0x%lx-0x%lx: ", start, end);
    return words.data();
  }
  return "no mapping";
}

const Registered kFifo("obstacle_fifo", [](Stage& stage) {
  const std::string path = stage.file("fifo");
  must(::mkfifo(path.c_str(), 0600), "mkfifo");
  const int number = open_file(path, O_RDWR);
  stage.obstacle(fd(number) + "named pipe " + path, [=] { ::close(number); });
});
const Registered kDevice("obstacle_device", [](Stage& stage) {
  const int number = ::open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
  if (number < 0) stage.skip("no /dev/kmsg");
  stage.obstacle(fd(number) + "device /dev/kmsg", [=] { ::close(number); });
});
const Registered kBlock("obstacle_block_device", [](Stage& stage) {
  for (const char* const path : {"/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop0"}) {
    const int number = ::open(path, O_RDONLY);
    if (number < 0) continue;
    stage.obstacle(fd(number) + "block device " + path, [=] { ::close(number); });
    return;
  }
  stage.skip("no block device");
});
const Registered kDeleted("obstacle_deleted_file", [](Stage& stage) {
  const std::string path = stage.file("deleted");
  const int number = open_file(path, O_RDWR | O_CREAT);
  must(::unlink(path.c_str()), "unlink");
  stage.obstacle(fd(number) + "deleted file " + path + " (deleted)", [=] { ::close(number); });
});
const Registered kRenamed("obstacle_replaced_file", [](Stage& stage) {
  const std::string path = stage.file("linked");
  const int number = open_file(path, O_RDWR | O_CREAT);
  must(::link(path.c_str(), stage.file("other").c_str()), "link");
  stage.say("linked", "another file");
  // The kernel shows it as deleted, though it has another name still.
  stage.obstacle(
      fd(number) + "file " + path + " (deleted), which is not there under this name any more",
      [=] { ::close(number); });
});
const Registered kFlock("obstacle_flock", [](Stage& stage) {
  const std::string path = stage.file("locked");
  const int number = open_file(path, O_RDWR | O_CREAT);
  must(::flock(number, LOCK_EX), "flock");
  stage.obstacle(fd(number) + "file lock on " + path, [=] { ::flock(number, LOCK_UN); });
});
const Registered kLock("obstacle_record_lock", [](Stage& stage) {
  const std::string path = stage.file("locked");
  const int number = open_file(path, O_RDWR | O_CREAT);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_len = 10;
  must(::fcntl(number, F_SETLK, &lock), "F_SETLK");
  stage.obstacle(fd(number) + "file lock on " + path, [=] { ::close(number); });
});
const Registered kAsync("obstacle_async", [](Stage& stage) {
  std::array<int, 2> ends{};
  must(::pipe(ends.data()), "pipe");
  must(::fcntl(ends[0], F_SETFL, O_ASYNC), "F_SETFL");
  struct stat what {};
  ::fstat(ends[0], &what);
  stage.obstacle(
      fd(ends[0]) + "signals for I/O (O_ASYNC) on pipe:[" + std::to_string(what.st_ino) + "]",
      [=] { ::fcntl(ends[0], F_SETFL, 0); });
});
const Registered kEpoll("obstacle_closed_watch", [](Stage& stage) {
  const int epoll = static_cast<int>(must(::epoll_create1(0), "epoll_create1"));
  const int event = static_cast<int>(must(::eventfd(0, 0), "eventfd"));
  const int copy = static_cast<int>(must(::dup(event), "dup"));
  epoll_event wanted{EPOLLIN, {.u64 = 1}};
  must(::epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wanted), "epoll_ctl");
  ::close(event);
  // The number means something else now.
  must(open_file("/dev/null", O_RDONLY) == event ? 0 : -1, "the lowest number");
  stage.obstacle(fd(epoll) + "epoll of fd " + std::to_string(event) + ", which is closed",
                 [=] { ::close(epoll); });
  static_cast<void>(copy);
});

char* map(int number, int protection, int flags) {
  void* const at = ::mmap(nullptr, 4 * kPage, protection, flags, number, 0);
  must(at == MAP_FAILED ? -1 : 0, "mmap");
  return static_cast<char*>(at);
}

const Registered kShared("obstacle_shared_file", [](Stage& stage) {
  const std::string path = stage.file("mapped");
  const int number = open_file(path, O_RDWR | O_CREAT);
  must(::ftruncate(number, 4 * kPage), "ftruncate");
  char* const at = map(number, PROT_READ | PROT_WRITE, MAP_SHARED);
  ::close(number);
  stage.obstacle(mapping_at(at) + "a shared, writable mapping of " + path,
                 [=] { ::munmap(at, 4 * kPage); });
});
const Registered kSharedDeleted("obstacle_shared_deleted_file", [](Stage& stage) {
  const std::string path = stage.file("mapped");
  const int number = open_file(path, O_RDWR | O_CREAT);
  must(::ftruncate(number, 4 * kPage), "ftruncate");
  char* const at = map(number, PROT_READ, MAP_SHARED);
  ::close(number);
  must(::unlink(path.c_str()), "unlink");
  stage.obstacle(mapping_at(at) + "a shared mapping of a deleted file " + path,
                 [=] { ::munmap(at, 4 * kPage); });
});
const Registered kSysV("obstacle_sysv", [](Stage& stage) {
  const int id = ::shmget(IPC_PRIVATE, 4 * kPage, IPC_CREAT | 0600);
  if (id < 0) stage.skip("no System V shared memory");
  void* const at = ::shmat(id, nullptr, 0);
  ::shmctl(id, IPC_RMID, nullptr);
  stage.obstacle(mapping_at(at) + "System V shared memory /SYSV00000000 (deleted)",
                 [=] { ::shmdt(at); });
});
const Registered kKey("obstacle_protection_key", [](Stage& stage) {
  const int key = ::pkey_alloc(0, 0);
  if (key < 0) stage.skip("no protection keys");
  char* const at = map(-1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  must(::pkey_mprotect(at, 4 * kPage, PROT_READ | PROT_WRITE, key), "pkey_mprotect");
  stage.obstacle(mapping_at(at) + "a protection key", [=] { ::munmap(at, 4 * kPage); });
});
const Registered kHuge("obstacle_huge_pages", [](Stage& stage) {
  constexpr std::size_t kHugeBytes = 2 << 20;
  void* const at = ::mmap(nullptr, kHugeBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
  if (at == MAP_FAILED) stage.skip("no huge pages in stock");
  stage.obstacle(mapping_at(at) + "huge pages (hugetlbfs) /anon_hugepage (deleted)",
                 [=] { ::munmap(at, kHugeBytes); });
});
const Registered kAio("obstacle_aio", [](Stage& stage) {
  aio_context_t context = 0;
  if (::syscall(SYS_io_setup, 8, &context) != 0) stage.skip("no asynchronous I/O");
  stage.obstacle(mapping_at(reinterpret_cast<void*>(context)) + "asynchronous I/O (io_setup)",
                 [=] { ::syscall(SYS_io_destroy, context); });
});
const Registered kTimer("obstacle_processor_timer", [](Stage& stage) {
  timer_t timer{};
  sigevent none{};
  none.sigev_notify = SIGEV_NONE;
  must(::timer_create(CLOCK_PROCESS_CPUTIME_ID, &none, &timer), "timer_create");
  stage.obstacle("POSIX timer 0: a clock of processor time of one thread or process",
                 [=] { ::timer_delete(timer); });
});

}  // namespace
}  // namespace subject
