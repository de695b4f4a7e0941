// A save on a disk that has room for one image and not for two.
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <mutex>
#include <new>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>

#include <pagetrap/checkpoint/checkpoint.hpp>

#include "child.hpp"
#include "state.hpp"

namespace crash {
namespace {

using namespace pagetrap::checkpoint;

constexpr int kSkipped = 77;

/// A small file system that only this process sees; it ends with it.
bool mount_small_disk(const std::string& directory, const char* size) {
  return ::unshare(CLONE_NEWNS) == 0 &&
         ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("none", directory.c_str(), "tmpfs", 0, size) == 0;
}

bool expect(bool truth, const char* what) {
  if (!truth) std::printf("full disk: WRONG: %s\n", what);
  return truth;
}

/// Counters at the cuts of the two images. Shared with the process that makes them.
struct Counters {
  std::atomic<std::uint64_t> first;
  std::atomic<std::uint64_t> second;
};

struct Files {
  std::string directory;
  std::string ballast = directory + "/ballast";
  std::string first = directory + "/state.000001.ckpt";
  std::string second = directory + "/state.000002.ckpt";
};

void write_ballast(const std::string& path, std::size_t bytes) {
  std::ofstream(path) << std::string(bytes, 'b');
}

/// A state that steps all the time, in an arena of its own.
class Program {
 public:
  explicit Program(std::uint64_t seed) : checkpointer_(Checkpointer::create().value()) {
    constexpr std::uint64_t kPages = 4096;  // 16 MiB, of which three quarters are stored
    Arena& arena = *checkpointer_.arena("state", std::size_t{1} << 30).value();
    state_ = arena.make<State>(arena.resource(), seed, kPages);
    arena.set_root(state_);
    checkpointer_.set_hooks({[this] {
                               lock_.lock();
                               at_cut_ = state_->counter;
                             },
                             [this] { lock_.unlock(); },
                             {}});
    thread_ = std::jthread([this](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        const std::lock_guard guard(lock_);
        state_->step();
        steps_.fetch_add(1);
      }
    });
  }
  pagetrap::Result<Statistics> save(const std::string& path) {
    auto sink = file_sink(path);
    if (!sink) return sink.error();
    SaveOptions full;
    full.full = true;
    return checkpointer_.checkpoint(**sink, full);
  }
  [[nodiscard]] bool goes_on() const {
    constexpr std::uint64_t kEnough = 100;
    const std::uint64_t before = steps_.load();
    for (int i = 0; i < 500 && steps_.load() < before + kEnough; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return steps_.load() >= before + kEnough;
  }
  [[nodiscard]] std::uint64_t at_cut() const { return at_cut_; }

 private:
  Checkpointer checkpointer_;
  State* state_ = nullptr;
  std::mutex lock_;
  std::uint64_t at_cut_ = 0;
  std::atomic<std::uint64_t> steps_{0};
  std::jthread thread_;  // the first to end
};

/// False after saying what is wrong.
bool save_with_little_room(const Files& files, std::uint64_t seed, Counters& counters) {
  Program program(seed);
  if (const auto saved = program.save(files.first); !saved) {
    std::printf("full disk: WRONG: the first save: %s\n",
                pagetrap::describe(saved.error()).c_str());
    return false;
  }
  counters.first = program.at_cut();
  const auto refused = program.save(files.second);
  if (!expect(!refused, "there is room for two images")) return false;
  std::printf("full disk: %s\n", pagetrap::describe(refused.error()).c_str());
  const auto there = std::distance(std::filesystem::directory_iterator(files.directory), {});
  bool right = expect(refused.error().number == ENOSPC, "that is not ENOSPC");
  right = expect(program.goes_on(), "the program stands still") && right;
  right = expect(there == 2, "something is left of the image that had no room") && right;
  // With room again there is a second image.
  std::filesystem::remove(files.ballast);
  right = expect(static_cast<bool>(program.save(files.second)), "no save works any more") && right;
  counters.second = program.at_cut();
  return expect(program.goes_on(), "the program stands still after the second save") && right;
}

/// In a process of its own.
bool in_child(const std::function<bool()>& work) {
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    bool right = false;
    try {
      right = work();
    } catch (const std::exception& error) {
      std::printf("full disk: WRONG: %s\n", error.what());
    }
    std::fflush(stdout);
    ::_exit(right ? 0 : 1);
  }
  int status = 0;
  return child > 0 && ::waitpid(child, &status, 0) == child && WIFEXITED(status) &&
         WEXITSTATUS(status) == 0;
}

bool image_is_right(const std::string& path, std::uint64_t counter) {
  auto checkpointer = Checkpointer::create().value();
  checkpointer.restore(path).value();
  const State& state = *checkpointer.find_arena("state")->root<State>();
  return expect(state.counter == counter, "the counter is another one") &&
         expect(check(state, counter).right, "the contents are others");
}

}  // namespace

int fill_disk(std::uint64_t seed) {
  std::string directory =
      (std::filesystem::temp_directory_path() / "pagetrap-crash.XXXXXX").string();
  if (::mkdtemp(directory.data()) == nullptr) return 1;
  if (!mount_small_disk(directory, "size=32m")) {
    std::printf("full disk: skipped: mounting a small tmpfs: %s\n", std::strerror(errno));
    std::filesystem::remove(directory);
    return kSkipped;
  }
  const Files made{directory};
  write_ballast(made.ballast, std::size_t{13} << 20);
  void* const shared =
      ::mmap(nullptr, sizeof(Counters), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return 1;
  auto& counters = *new (shared) Counters{};
  bool right = in_child([&] { return save_with_little_room(made, seed, counters); });
  right = in_child([&] { return image_is_right(made.first, counters.first); }) && right;
  right = right && in_child([&] { return image_is_right(made.second, counters.second); });
  ::umount(directory.c_str());
  std::error_code ignored;
  std::filesystem::remove(directory, ignored);
  std::printf("full disk: %s\n", right ? "right: ENOSPC, the program went on, the earlier image is "
                                         "whole, and there is room again later"
                                       : "WRONG");
  return right ? 0 : 1;
}

}  // namespace crash
