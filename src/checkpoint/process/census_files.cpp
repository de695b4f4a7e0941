#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "checkpoint/process/census.hpp"
#include "checkpoint/process/shared_memory.hpp"
#include "checkpoint/process/sockets.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

// One descriptor being looked at.
struct Looked {
  pid_t process = 0;
  int number = 0;
  std::string proc;  // /proc/PID/fd/N
  std::string link;
  struct stat what {};
  Fields info{""};
};

bool is_harmless(dev_t device) {
  const unsigned minor = gnu_dev_minor(device);
  return gnu_dev_major(device) == 1 &&
         (minor == 3 || minor == 5 || minor == 7 || minor == 8 || minor == 9);
}

bool is_terminal(dev_t device) {
  const unsigned major = gnu_dev_major(device);
  return (major >= 136 && major <= 143) || major == 4 ||
         (major == 5 && gnu_dev_minor(device) == 0) || (major == 5 && gnu_dev_minor(device) == 1);
}

bool same_description(pid_t process, int one, int other) {
  return ::syscall(SYS_kcmp, process, process, KCMP_FILE, one, other) == 0;
}

// The number of ours that is the same pipe, socket or device; -1: none.
int inherited_as(const struct stat& what) {
  for (int number = 0; number <= 2; ++number) {
    struct stat ours {};
    if (::fstat(number, &ours) == 0 && ours.st_dev == what.st_dev && ours.st_ino == what.st_ino &&
        (ours.st_mode & S_IFMT) == (what.st_mode & S_IFMT))
      return number;
  }
  return -1;
}

struct InPipe {
  std::vector<std::byte> bytes;
  std::vector<std::uint64_t> packets;  // their lengths
};

// Without taking anything out.
Result<InPipe> look_into_pipe(int reader, std::uint64_t capacity) {
  std::array<int, 2> own{};
  if (::pipe2(own.data(), O_CLOEXEC | O_NONBLOCK) != 0) return Error{"pipe2", errno};
  const sys::Descriptor from(own[0]);
  const sys::Descriptor to(own[1]);
  ::fcntl(to.get(), F_SETPIPE_SZ, static_cast<int>(capacity));
  InPipe inside;
  const ssize_t copied = ::tee(reader, to.get(), capacity, SPLICE_F_NONBLOCK);
  if (copied < 0 && errno == EAGAIN) return inside;
  if (copied < 0) return Error{"tee of a pipe", errno};
  inside.bytes.resize(static_cast<std::size_t>(copied));
  std::size_t filled = 0;
  while (filled < inside.bytes.size()) {
    // Ends where a packet does.
    const ssize_t got =
        ::read(from.get(), inside.bytes.data() + filled, inside.bytes.size() - filled);
    if (got <= 0) return Error{"read of a pipe's copy", got < 0 ? errno : EIO};
    filled += static_cast<std::size_t>(got);
    inside.packets.push_back(static_cast<std::uint64_t>(got));
  }
  int there = 0;
  if (::ioctl(reader, FIONREAD, &there) == 0 && static_cast<std::size_t>(there) != filled)
    return Error{"tee of a pipe", ENOBUFS, {}, "not all of its contents could be copied"};
  return inside;
}

Result<Done> look_at_pipe(const Looked& looked, int pidfd, OpenFile& file, Record& record,
                          ObjectContents& contents, Refusals& refusals) {
  const std::string name = "fd " + std::to_string(looked.number) + ": ";
  if (!looked.link.starts_with("pipe:")) {
    refusals.add(name + "named pipe " + looked.link);
    return Done{};
  }
  if (const int ours = inherited_as(looked.what); ours >= 0) {
    file.kind = FileKind::inherited;
    file.inherited = static_cast<std::uint64_t>(ours);
    return Done{};
  }
  file.kind = FileKind::pipe;
  std::uint64_t index = 0;
  while (index < record.objects.size() && !(record.objects[index].kind == ObjectKind::pipe &&
                                            record.objects[index].inode == looked.what.st_ino))
    ++index;
  file.object = index;
  const auto own = take_descriptor(pidfd, looked.number);
  if (!own) return own.error();
  const bool reads = (file.flags & O_ACCMODE) != O_WRONLY;
  if (index == record.objects.size()) {
    Object object;
    object.kind = ObjectKind::pipe;
    object.inode = looked.what.st_ino;
    const int capacity = ::fcntl(own->get(), F_GETPIPE_SZ);
    object.size = capacity > 0 ? static_cast<std::uint64_t>(capacity) : 65536;
    record.objects.push_back(object);
    contents.emplace_back();
  }
  if (reads && contents[index].empty()) {
    auto inside = look_into_pipe(own->get(), record.objects[index].size);
    if (!inside) return inside.error();
    contents[index].push_back({0, std::move(inside->bytes)});
    record.objects[index].packets = std::move(inside->packets);
  }
  if ((file.flags & O_DIRECT) != 0) record.objects[index].has_packets = 1;
  return Done{};
}

// Pipes with one end here: the other is nowhere, or with somebody else.
void look_for_other_ends(int pidfd, const Record& record, Refusals& refusals) {
  for (std::uint64_t index = 0; index < record.objects.size(); ++index) {
    if (record.objects[index].kind != ObjectKind::pipe) continue;
    bool reads = false;
    bool writes = false;
    int number = -1;
    for (const OpenFile& file : record.files) {
      if (file.kind != FileKind::pipe || file.object != index) continue;
      if (number < 0) number = static_cast<int>(file.descriptor);
      reads |= (file.flags & O_ACCMODE) != O_WRONLY;
      writes |= (file.flags & O_ACCMODE) != O_RDONLY;
    }
    if (reads && writes) continue;
    const auto own = take_descriptor(pidfd, number);
    pollfd poll{own ? own->get() : -1, 0, 0};
    if (own && ::poll(&poll, 1, 0) == 1 && (poll.revents & (POLLHUP | POLLERR)) != 0) continue;
    refusals.add("fd " + std::to_string(number) + ": pipe to another process");
  }
}

void look_at_epoll(const Looked& looked, OpenFile& file) {
  file.kind = FileKind::epoll;
  for (const std::string& line : looked.info.all("tfd")) {
    // "       5 events:       19 data:                5  pos:0 ino:3c sdev:a"
    Watch watch;
    unsigned long number = 0;
    unsigned long events = 0;
    unsigned long long data = 0;
    if (std::sscanf(line.c_str(), "%lu events: %lx data: %llx", &number, &events, &data) == 3) {
      watch.descriptor = number;
      watch.events = events;
      watch.data = data;
      file.watches.push_back(watch);
    }
  }
}

std::array<std::uint64_t, 2> pair_in(const std::string& words) {
  unsigned long long seconds = 0;
  unsigned long long nanoseconds = 0;
  std::sscanf(words.c_str(), "(%llu, %llu)", &seconds, &nanoseconds);
  return {seconds, nanoseconds};
}

Result<Done> look_at_timer(const Looked& looked, int pidfd, OpenFile& file) {
  file.kind = FileKind::timer;
  // The kernel lets a timer with an interval rest until somebody reads it, or asks.
  const auto own = take_descriptor(pidfd, looked.number);
  if (!own) return own.error();
  itimerspec times{};
  if (::timerfd_gettime(own->get(), &times) != 0) return Error{"timerfd_gettime", errno};
  const auto text =
      read_whole(proc_path(looked.process, "fdinfo/" + std::to_string(looked.number)));
  if (!text) return text.error();
  const Fields info(*text);
  file.clock = info.number("clockid");
  file.count = info.number("ticks");
  file.timer_flags = info.number("settime flags", 8);
  const auto left = pair_in(info.word("it_value"));
  const auto interval = pair_in(info.word("it_interval"));
  file.times = {interval[0], interval[1], left[0], left[1]};
  const bool of_day = file.clock == CLOCK_REALTIME || file.clock == CLOCK_REALTIME_ALARM;
  if (!of_day || (file.timer_flags & TFD_TIMER_ABSTIME) == 0 || (left[0] | left[1]) == 0) {
    file.timer_flags = 0;
    return Done{};
  }
  // A time of day, and not one from now.
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const std::uint64_t nanoseconds = left[1] + static_cast<std::uint64_t>(now.tv_nsec);
  file.times[2] = left[0] + static_cast<std::uint64_t>(now.tv_sec) + nanoseconds / 1'000'000'000;
  file.times[3] = nanoseconds % 1'000'000'000;
  return Done{};
}

Result<Done> look_at_memory(const Looked& looked, int pidfd, OpenFile& file, Record& record,
                            ObjectContents& contents) {
  file.kind = FileKind::memory;
  file.file.mode = looked.what.st_mode;
  std::uint64_t index = 0;
  while (index < record.objects.size() && (record.objects[index].kind == ObjectKind::pipe ||
                                           record.objects[index].inode != looked.what.st_ino))
    ++index;
  if (index == record.objects.size()) {
    record.objects.emplace_back();
    contents.emplace_back();
  }
  file.object = index;
  Object& object = record.objects[index];
  if (object.kind == ObjectKind::memfd) return Done{};  // seen already
  object.kind = ObjectKind::memfd;
  object.inode = looked.what.st_ino;
  constexpr std::size_t kPrefix = 7;  // of "/memfd:NAME (deleted)"
  object.name = looked.link.substr(kPrefix, looked.link.rfind(" (deleted)") - kPrefix);
  object.size = static_cast<std::uint64_t>(looked.what.st_size);
  const auto own = take_descriptor(pidfd, looked.number);
  if (!own) return own.error();
  const int seals = ::fcntl(own->get(), F_GET_SEALS);
  object.seals = seals > 0 ? static_cast<std::uint64_t>(seals) : 0;
  // Its own description: neither the position nor the way it was opened matters.
  const sys::Descriptor reader(::open(looked.proc.c_str(), O_RDONLY | O_CLOEXEC));
  if (!reader.valid()) return Error{"open a memfd of another process", errno};
  auto copied = copy_file(reader.get());
  if (!copied) return copied.error();
  contents[index] = std::move(*copied);
  return Done{};
}

void look_at_terminal(const Looked& looked, int pidfd, OpenFile& file) {
  file.kind = FileKind::terminal;
  const auto own = take_descriptor(pidfd, looked.number);
  termios settings{};
  if (own && ::tcgetattr(own->get(), &settings) == 0) {
    file.terminal.resize(sizeof settings);
    std::memcpy(file.terminal.data(), &settings, sizeof settings);
  }
}

Result<Done> look_at_regular(const Looked& looked, OpenFile& file, Refusals& refusals) {
  const std::string name = "fd " + std::to_string(looked.number) + ": ";
  file.kind = S_ISDIR(looked.what.st_mode) ? FileKind::directory : FileKind::regular;
  const auto identity = identify(looked.proc, looked.link);
  if (!identity) return identity.error();
  file.file = *identity;
  const auto by_name = identify(looked.link, looked.link);
  const bool can_be_opened = looked.what.st_nlink != 0 && by_name &&
                             by_name->inode == identity->inode &&
                             by_name->device == identity->device;
  if (can_be_opened) return Done{};
  // What whoever ran the program gave it, and can be given again.
  if (const int ours = inherited_as(looked.what); ours >= 0) {
    file.kind = FileKind::inherited;
    file.inherited = static_cast<std::uint64_t>(ours);
  } else if (looked.what.st_nlink == 0) {
    refusals.add(name + "deleted file " + looked.link);
  } else {
    refusals.add(name + "file " + looked.link + ", which is not there under this name any more");
  }
  return Done{};
}

Result<Done> look_at(const Looked& looked, int pidfd, OpenFile& file, Record& record,
                     ObjectContents& contents, Refusals& refusals) {
  const std::string name = "fd " + std::to_string(looked.number) + ": ";
  if (looked.info.has("lock")) refusals.add(name + "file lock on " + looked.link);
  if (looked.link.starts_with("/memfd:"))
    return look_at_memory(looked, pidfd, file, record, contents);
  switch (looked.what.st_mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
      return look_at_regular(looked, file, refusals);
    case S_IFIFO:
      return look_at_pipe(looked, pidfd, file, record, contents, refusals);
    case S_IFSOCK:
      if (const int ours = inherited_as(looked.what); ours >= 0) {
        file.kind = FileKind::inherited;
        file.inherited = static_cast<std::uint64_t>(ours);
        return Done{};
      }
      refusals.add(name + describe_socket(pidfd, looked.number));
      return Done{};
    case S_IFCHR:
      if (is_terminal(looked.what.st_rdev)) {
        look_at_terminal(looked, pidfd, file);
      } else if (is_harmless(looked.what.st_rdev)) {
        file.kind = FileKind::device;
        file.file.path = looked.link;
      } else {
        refusals.add(name + "device " + looked.link);
      }
      return Done{};
    case S_IFBLK:
      refusals.add(name + "block device " + looked.link);
      return Done{};
    default:
      break;
  }
  if (looked.link == "anon_inode:[eventfd]") {
    file.kind = FileKind::event;
    file.count = looked.info.number("eventfd-count", 16);
    file.clock = looked.info.number("eventfd-semaphore");
  } else if (looked.link == "anon_inode:[timerfd]") {
    return look_at_timer(looked, pidfd, file);
  } else if (looked.link == "anon_inode:[eventpoll]") {
    look_at_epoll(looked, file);
  } else if (looked.link == "anon_inode:[signalfd]") {
    file.kind = FileKind::signal;
    file.mask = looked.info.number("sigmask", 16);
  } else {
    const bool anonymous = looked.link.starts_with("anon_inode:");
    refusals.add(name + (anonymous ? looked.link.substr(11) : looked.link));
  }
  return Done{};
}

// SOURCE linux/kcmp.h
struct EpollSlot {
  std::uint32_t epoll;
  std::uint32_t watched;
  std::uint32_t which;  // of those under this number
};

bool watches(pid_t process, const OpenFile& epoll, const Watch& watch) {
  const EpollSlot slot{static_cast<std::uint32_t>(epoll.descriptor),
                       static_cast<std::uint32_t>(watch.descriptor), 0};
  const long same = ::syscall(SYS_kcmp, process, process, KCMP_EPOLL_TFD, watch.descriptor, &slot);
  return same == 0 || (same < 0 && errno != ENOENT && errno != EBADF);
}

void check_watches(pid_t process, const Record& record, Refusals& refusals) {
  for (const OpenFile& file : record.files)
    for (const Watch& watch : file.watches) {
      if (!watches(process, file, watch))
        refusals.add("fd " + std::to_string(file.descriptor) + ": epoll of fd " +
                     std::to_string(watch.descriptor) + ", which is closed");
    }
}

}  // namespace

Result<sys::Descriptor> take_descriptor(int pidfd, int number) {
  sys::Descriptor taken(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, number, 0)));
  if (!taken.valid())
    return Error{"pidfd_getfd", errno, {}, "needs Linux 5.6, and to be its parent"};
  return taken;
}

Result<Done> census_of_files(pid_t process, int pidfd, Record& record, ObjectContents& contents,
                             Refusals& refusals) {
  const auto numbers = numbers_in(proc_path(process, "fd"));
  if (!numbers) return numbers.error();
  for (const int number : *numbers) {
    Looked looked;
    looked.process = process;
    looked.number = number;
    looked.proc = proc_path(process, "fd/" + std::to_string(number));
    looked.link = read_link(looked.proc);
    if (::stat(looked.proc.c_str(), &looked.what) != 0)
      return Error{"stat of another process's file", errno};
    const auto info = read_whole(proc_path(process, "fdinfo/" + std::to_string(number)));
    if (!info) return info.error();
    looked.info = Fields(*info);
    OpenFile file;
    file.descriptor = static_cast<std::uint64_t>(number);
    file.position = looked.info.number("pos");
    file.flags = looked.info.number("flags", 8);
    file.close_on_exec = (file.flags & O_CLOEXEC) != 0 ? 1 : 0;
    file.flags &= ~std::uint64_t{O_CLOEXEC};
    if ((file.flags & O_ASYNC) != 0)
      refusals.add("fd " + std::to_string(number) + ": signals for I/O (O_ASYNC) on " +
                   looked.link);
    for (std::size_t i = 0; i < record.files.size() && file.shares == 0; ++i) {
      const OpenFile& other = record.files[i];
      if (other.shares == 0 && other.flags == file.flags && other.position == file.position &&
          same_description(process, static_cast<int>(other.descriptor), number))
        file.shares = i + 1;
    }
    if (auto done = look_at(looked, pidfd, file, record, contents, refusals); !done) return done;
    record.files.push_back(std::move(file));
  }
  look_for_other_ends(pidfd, record, refusals);
  check_watches(process, record, refusals);
  return refusals.empty() ? copy_mapped_objects(process, record, contents) : Result<Done>(Done{});
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
