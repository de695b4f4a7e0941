#include "rivals/stop_and_write.hpp"

#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <system_error>
#include <vector>

#include "harness/clock.hpp"

namespace pagetrap::bench::rivals {

namespace {

constexpr std::size_t kBuffer = std::size_t{1} << 20;
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kThere = std::uint64_t{3} << 62;  // in pagemap: present, or swapped
constexpr std::uint64_t kOfFile = std::uint64_t{1} << 61;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::string proc(pid_t process, const char* name) {
  return "/proc/" + std::to_string(process) + "/" + name;
}

class File {
 public:
  File(const std::string& path, int flags)
      : descriptor_(open(path.c_str(), flags | O_CLOEXEC, 0600)) {
    if (descriptor_ < 0) fail(path.c_str());
  }
  ~File() { close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  [[nodiscard]] int get() const noexcept { return descriptor_; }

 private:
  int descriptor_;
};

/// All threads of a process, which stand still as long as this is there.
class Stopped {
 public:
  explicit Stopped(pid_t process) {
    // Whoever is stopped makes no more threads.
    for (bool again = true; again;) {
      again = false;
      for (const auto& entry : std::filesystem::directory_iterator(proc(process, "task"))) {
        const pid_t thread = std::atoi(entry.path().filename().c_str());
        if (signals_.contains(thread)) continue;
        if (ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) != 0) {
          if (errno == ESRCH) continue;
          const int error = errno;
          let_go();
          errno = error;
          fail("PTRACE_SEIZE");
        }
        signals_.emplace(thread, kNotYet);
        ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr);
        again = true;
      }
      for (auto& [thread, signal] : signals_) {
        if (signal != kNotYet) continue;
        int status = 0;
        while (waitpid(thread, &status, __WALL) < 0 && errno == EINTR) {
        }
        // A signal that was about to be delivered: it is, in the end.
        signal = WIFSTOPPED(status) && (status >> 16) == 0 ? WSTOPSIG(status) : 0;
      }
    }
  }
  ~Stopped() { let_go(); }
  Stopped(const Stopped&) = delete;
  Stopped& operator=(const Stopped&) = delete;

 private:
  static constexpr long kNotYet = -1;
  void let_go() noexcept {
    for (const auto& [thread, signal] : signals_)
      ptrace(PTRACE_DETACH, thread, nullptr, std::max(0L, signal));
  }
  std::map<pid_t, long> signals_;  // by thread
};

struct Range {
  std::uint64_t start;
  std::uint64_t end;
};

void add_present(int pagemap, Range range, std::vector<Range>& out) {
  std::array<std::uint64_t, 8192> entries;
  for (std::uint64_t at = range.start; at < range.end;) {
    const std::uint64_t count = std::min<std::uint64_t>(entries.size(), (range.end - at) / kPage);
    const ssize_t got = pread(pagemap, entries.data(), count * sizeof entries[0],
                              static_cast<off_t>(at / kPage * sizeof entries[0]));
    if (got <= 0) return;
    const std::uint64_t read = static_cast<std::uint64_t>(got) / sizeof entries[0];
    for (std::uint64_t i = 0; i < read; ++i, at += kPage) {
      if ((entries[i] & kThere) == 0 || (entries[i] & kOfFile) != 0) continue;
      if (!out.empty() && out.back().end == at) {
        out.back().end += kPage;
      } else {
        out.push_back({at, at + kPage});
      }
    }
  }
}

std::vector<Range> memory_of(pid_t process) {
  const File pagemap(proc(process, "pagemap"), O_RDONLY);
  std::vector<Range> ranges;
  std::ifstream maps(proc(process, "maps"));
  for (std::string line; std::getline(maps, line);) {
    Range range{};
    std::array<char, 5> rights{};
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %4s", &range.start, &range.end,
                    rights.data()) != 3 ||
        rights[0] != 'r' || line.find("[v") != std::string::npos)
      continue;
    add_present(pagemap.get(), range, ranges);
  }
  return ranges;
}

double write_memory(pid_t process, int out) {
  std::vector<char> buffer(kBuffer);
  double bytes = 0;
  for (const Range& range : memory_of(process)) {
    for (std::uint64_t at = range.start; at < range.end;) {
      const iovec here{buffer.data(), std::min<std::uint64_t>(kBuffer, range.end - at)};
      const iovec there{reinterpret_cast<void*>(at), here.iov_len};
      const ssize_t got = process_vm_readv(process, &here, 1, &there, 1, 0);
      if (got <= 0) fail("process_vm_readv");
      if (write(out, buffer.data(), static_cast<std::size_t>(got)) != got) fail("write");
      at += static_cast<std::uint64_t>(got);
      bytes += static_cast<double>(got);
    }
  }
  return bytes;
}

}  // namespace

StopAndWrite stop_and_write(pid_t process, const std::string& path) {
  const File out(path, O_WRONLY | O_CREAT | O_TRUNC);
  StopAndWrite result;
  result.begin_ns = now_ns();
  {
    const Stopped stopped(process);
    result.bytes = write_memory(process, out.get());
  }
  result.end_ns = now_ns();
  return result;
}

}  // namespace pagetrap::bench::rivals
