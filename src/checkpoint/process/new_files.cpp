#include "checkpoint/process/new_files.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

Trouble::Trouble(const std::string& object, int error)
    : std::runtime_error(object + ": " + std::strerror(error)) {}

namespace {

constexpr int kSettable = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME;
constexpr unsigned long kSetTicks = 0x40085400;  // TFD_IOC_SET_TICKS

std::string name_of(const OpenFile& file) { return "fd " + std::to_string(file.descriptor); }

class FileMaker {
 public:
  FileMaker(const Record& record, const std::vector<std::vector<std::byte>>& contents)
      : record_(record), contents_(contents) {
    for (const OpenFile& file : record.files)
      first_high_ = std::max(first_high_, static_cast<int>(file.descriptor) + 1);
  }

  void make(const std::vector<int>& kept, HighFiles& high) {
    high.first = first_high_;
    make_room();
    for (std::size_t i = 0; i < standard_.size(); ++i)
      standard_[i] = to_high(::dup(static_cast<int>(i)), "a standard descriptor");
    terminal_ = find_terminal();
    for (const int number : kept) high.kept.push_back(to_high(number, "a descriptor"));
    open_mapped(high);
    if (::syscall(SYS_close_range, 0, first_high_ - 1, 0) != 0) close_below(first_high_);
    for (std::size_t i = 0; i < record_.files.size(); ++i) place(record_.files[i]);
    add_watches();
    for (const int end : spare_ends_) ::close(end);
    for (const auto& [index, number] : memories_) {
      const Object& object = record_.objects[index];
      if (object.kind != ObjectKind::memfd) continue;
      // Mappings may be older than this one; no seal comes after F_SEAL_SEAL.
      const bool later = (object.seals & F_SEAL_FUTURE_WRITE) != 0;
      const std::uint64_t last = later ? object.seals & (F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) : 0;
      const std::uint64_t first = object.seals & ~last;
      if (first != 0 && ::fcntl(number, F_ADD_SEALS, static_cast<int>(first)) != 0)
        throw Trouble("memfd " + object.name, errno);
      if (last != 0) high.seals.emplace_back(number, last);
    }
  }

 private:
  // As many numbers as the process had, and ours.
  void make_room() const {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) throw Trouble("getrlimit", errno);
    limit.rlim_cur = limit.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) throw Trouble("setrlimit of RLIMIT_NOFILE", errno);
  }

  static void close_below(int end) {
    for (int number = 0; number < end; ++number) ::close(number);
  }

  // Whatever it was, it is above all numbers of the process now; -1 stays -1.
  int to_high(int number, const std::string& what) const {
    if (number < 0) return -1;
    const int high = ::fcntl(number, F_DUPFD_CLOEXEC, first_high_);
    const int error = errno;
    ::close(number);
    if (high < 0) throw Trouble(what, error);
    return high;
  }

  int find_terminal() const {
    for (const int number : standard_)
      if (number >= 0 && ::isatty(number) == 1) return number;
    return to_high(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY), "/dev/tty");
  }

  void open_mapped(HighFiles& high) {
    std::map<std::string, int> by_path;
    const auto opened = [&](const std::string& path) {
      const auto known = by_path.find(path);
      if (known != by_path.end()) return known->second;
      const int number = to_high(::open(path.c_str(), O_RDONLY | O_CLOEXEC), path);
      if (number < 0) throw Trouble("mapped file " + path, errno);
      by_path.emplace(path, number);
      return number;
    };
    for (const Mapping& mapping : record_.mappings) {
      int number = -1;
      if (mapping.kind == MappingKind::file || mapping.kind == MappingKind::shared_file)
        number = opened(mapping.file.path);
      if (mapping.kind == MappingKind::shared_memory) number = memory_object(mapping.object);
      high.of_mappings.push_back(number);
    }
    if (!record_.executable.path.empty()) {
      const int number = ::open(record_.executable.path.c_str(), O_RDONLY | O_CLOEXEC);
      if (number >= 0) high.executable = to_high(number, record_.executable.path);
    }
  }

  static void write_all(int number, const std::byte* bytes, std::size_t count, off_t at,
                        const std::string& what) {
    while (count != 0) {
      const ssize_t put =
          at < 0 ? ::write(number, bytes, count) : ::pwrite(number, bytes, count, at);
      if (put <= 0) throw Trouble(what, put < 0 ? errno : EIO);
      bytes += put;
      count -= static_cast<std::size_t>(put);
      if (at >= 0) at += put;
    }
  }

  // A memfd with what was in it; opened again for each description.
  int memory_object(std::uint64_t index) {
    const auto known = memories_.find(index);
    if (known != memories_.end()) return known->second;
    const Object& object = record_.objects[index];
    const std::string what = "shared memory " + object.name;
    const int number =
        to_high(::memfd_create(object.name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING), what);
    if (number < 0) throw Trouble(what, errno);
    if (::ftruncate(number, static_cast<off_t>(object.size)) != 0) throw Trouble(what, errno);
    write_nonzero(number, contents_[index], what);
    memories_.emplace(index, number);
    return number;
  }

  static void write_nonzero(int number, const std::vector<std::byte>& bytes,
                            const std::string& what) {
    constexpr std::size_t kPage = 4096;
    for (std::size_t at = 0; at < bytes.size(); at += kPage) {
      const std::size_t length = std::min(kPage, bytes.size() - at);
      const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(at);
      if (std::all_of(begin, begin + static_cast<std::ptrdiff_t>(length),
                      [](std::byte byte) { return byte == std::byte{0}; }))
        continue;
      write_all(number, bytes.data() + at, length, static_cast<off_t>(at), what);
    }
  }

  static int reopen(int number, std::uint64_t flags) {
    const std::string path = "/proc/self/fd/" + std::to_string(number);
    return ::open(path.c_str(), static_cast<int>(flags) | O_CLOEXEC);
  }

  static void refill(int writer, const Object& object, const std::vector<std::byte>& inside,
                     const std::string& what) {
    const bool packets = object.has_packets != 0 || object.packets.size() > 1;
    // What does not fit is trouble, and nothing to wait for.
    if (::fcntl(writer, F_SETFL, O_NONBLOCK | (packets ? O_DIRECT : 0)) != 0)
      throw Trouble(what, errno);
    if (!packets) {
      write_all(writer, inside.data(), inside.size(), -1, what);
      return;
    }
    const std::byte* at = inside.data();
    for (const std::uint64_t length : object.packets) {
      write_all(writer, at, length, -1, what);
      at += length;
    }
  }

  // Both ends, with what was inside; the first description of each end is the one that was made.
  int pipe_end(const OpenFile& file) {
    const bool writes = (file.flags & O_ACCMODE) == O_WRONLY;
    auto known = pipes_.find(file.object);
    if (known == pipes_.end()) {
      const Object& object = record_.objects[file.object];
      std::array<int, 2> ends{};
      if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw Trouble(name_of(file) + ": pipe", errno);
      for (int& end : ends) end = to_high(end, name_of(file));
      ::fcntl(ends[1], F_SETPIPE_SZ, static_cast<int>(object.size));
      refill(ends[1], object, contents_[file.object], name_of(file) + ": pipe");
      known = pipes_.emplace(file.object, ends).first;
      spare_ends_.push_back(ends[0]);
      spare_ends_.push_back(ends[1]);
    }
    return reopen(known->second[writes ? 1 : 0], file.flags & (O_ACCMODE | O_NONBLOCK));
  }

  int make_timer(const OpenFile& file) {
    const int number = ::timerfd_create(static_cast<int>(file.clock), TFD_CLOEXEC);
    if (number < 0) return number;
    itimerspec times{};
    times.it_interval = {static_cast<time_t>(file.times[0]), static_cast<long>(file.times[1])};
    times.it_value = {static_cast<time_t>(file.times[2]), static_cast<long>(file.times[3])};
    if (::timerfd_settime(number, static_cast<int>(file.timer_flags), &times, nullptr) != 0)
      throw Trouble(name_of(file), errno);
    if (file.count != 0 && ::ioctl(number, kSetTicks, &file.count) != 0)
      throw Trouble(name_of(file) + ": timerfd with expirations that were not read", errno);
    return number;
  }

  int make_event(const OpenFile& file) {
    const int number = ::eventfd(0, EFD_CLOEXEC | (file.clock != 0 ? EFD_SEMAPHORE : 0));
    if (number >= 0 && file.count != 0)
      write_all(number, reinterpret_cast<const std::byte*>(&file.count), sizeof file.count, -1,
                name_of(file));
    return number;
  }

  int open_terminal(const OpenFile& file) {
    // The descriptors that a shell gives are whatever this command has there.
    if (file.descriptor <= 2) return ::fcntl(standard_[file.descriptor], F_DUPFD_CLOEXEC, 0);
    if (terminal_ < 0) throw Trouble(name_of(file) + " was a terminal, and there is none here");
    return ::fcntl(terminal_, F_DUPFD_CLOEXEC, 0);
  }

  int open_one(const OpenFile& file) {
    // A file without a name that was given one later: it has it now.
    const int flags = (static_cast<int>(file.flags) & ~(O_TMPFILE & ~O_DIRECTORY)) | O_CLOEXEC;
    switch (file.kind) {
      case FileKind::regular:
      case FileKind::directory:
      case FileKind::device:
        return ::open(file.file.path.c_str(), flags | O_NOCTTY);
      case FileKind::terminal:
        return open_terminal(file);
      case FileKind::inherited:
        return ::fcntl(standard_[file.inherited], F_DUPFD_CLOEXEC, 0);
      case FileKind::pipe:
        return pipe_end(file);
      case FileKind::event:
        return make_event(file);
      case FileKind::timer:
        return make_timer(file);
      case FileKind::epoll:
        return ::epoll_create1(EPOLL_CLOEXEC);
      case FileKind::signal: {
        sigset_t mask{};
        std::memcpy(&mask, &file.mask, sizeof file.mask);
        return ::signalfd(-1, &mask, SFD_CLOEXEC);
      }
      case FileKind::memory: {
        const int memory = memory_object(file.object);
        if (::fchmod(memory, static_cast<mode_t>(file.file.mode & 07777)) != 0) return -1;
        return reopen(memory, file.flags & O_ACCMODE);
      }
    }
    return -1;
  }

  void place(const OpenFile& file) {
    const auto wanted = static_cast<int>(file.descriptor);
    const int on_exec = file.close_on_exec != 0 ? O_CLOEXEC : 0;
    if (file.shares != 0) {
      const auto other = static_cast<int>(record_.files[file.shares - 1].descriptor);
      if (::dup3(other, wanted, on_exec) < 0) throw Trouble(name_of(file), errno);
      return;
    }
    const int opened = to_high(open_one(file), name_of(file));
    if (opened < 0) throw Trouble(name_of(file) + ": " + file.file.path, errno);
    if (::dup3(opened, wanted, on_exec) < 0) throw Trouble(name_of(file), errno);
    ::close(opened);
    if ((file.flags & O_PATH) != 0) return;  // neither flags nor a place
    const bool ours = file.kind == FileKind::terminal || file.kind == FileKind::inherited;
    if (!ours && ::fcntl(wanted, F_SETFL, static_cast<int>(file.flags) & kSettable) != 0)
      throw Trouble(name_of(file), errno);
    const bool has_place = file.kind == FileKind::regular || file.kind == FileKind::directory ||
                           file.kind == FileKind::memory;
    if (has_place && ::lseek(wanted, static_cast<off_t>(file.position), SEEK_SET) < 0)
      throw Trouble(name_of(file) + ": " + file.file.path, errno);
    if (file.kind == FileKind::terminal && file.terminal.size() == sizeof(termios)) {
      termios settings{};
      std::memcpy(&settings, file.terminal.data(), sizeof settings);
      ::tcsetattr(wanted, TCSADRAIN, &settings);  // it may be no terminal now
    }
  }

  void add_watches() const {
    for (const OpenFile& file : record_.files) {
      if (file.shares != 0) continue;  // the same one under another number
      for (const Watch& watch : file.watches) {
        epoll_event event{};
        event.events = static_cast<std::uint32_t>(watch.events);
        event.data.u64 = watch.data;
        if (::epoll_ctl(static_cast<int>(file.descriptor), EPOLL_CTL_ADD,
                        static_cast<int>(watch.descriptor), &event) != 0)
          throw Trouble(name_of(file) + ": epoll", errno);
      }
    }
  }

  const Record& record_;
  const std::vector<std::vector<std::byte>>& contents_;
  int first_high_ = 3;
  std::array<int, 3> standard_{-1, -1, -1};
  int terminal_ = -1;
  std::map<std::uint64_t, int> memories_;
  std::map<std::uint64_t, std::array<int, 2>> pipes_;
  std::vector<int> spare_ends_;
};

}  // namespace

void make_files(const Record& record, const std::vector<std::vector<std::byte>>& contents,
                const std::vector<int>& kept, HighFiles& high) {
  FileMaker(record, contents).make(kept, high);
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
