// What the soak found, each by itself.
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <pagetrap/checkpoint/process.hpp>

#include "support/folder.hpp"

namespace pagetrap::checkpoint {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr std::size_t kPage = 4096;

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

bool wait_for(const std::string& path) {
  for (int i = 0; i < 5000 && !exists(path); ++i) std::this_thread::sleep_for(2ms);
  return exists(path);
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path + ".new") << text;
  std::filesystem::rename(path + ".new", path);
}

std::string read_file(const std::string& path) {
  std::string text;
  std::ifstream(path) >> text;
  return text;
}

/// Memory that says of each of its pages which it is.
class Pages {
 public:
  explicit Pages(std::size_t count) : words_(count * kPage / 8) {
    for (std::size_t i = 0; i < count; ++i) words_[i * kPage / 8 + 7] = i * 2654435761U + 1;
  }
  [[nodiscard]] bool right() const {
    for (std::size_t i = 0; i < words_.size() * 8 / kPage; ++i)
      if (words_[i * kPage / 8 + 7] != i * 2654435761U + 1) return false;
    return true;
  }

 private:
  std::vector<std::uint64_t> words_;
};

/// A child with nothing open, that answers when it is asked whether all is right.
class Asked {
 public:
  Asked(
      const Folder& folder, std::size_t pages,
      const std::function<bool()>& prepare = [] { return true; })
      : folder_(folder.path()) {
    id_ = ::fork();
    if (id_ == 0) be(pages, prepare);
    ready_ = wait_for(file("ready"));
  }
  ~Asked() { kill(); }
  Asked(const Asked&) = delete;
  Asked& operator=(const Asked&) = delete;

  [[nodiscard]] pid_t id() const { return id_; }
  [[nodiscard]] bool ready() const { return ready_ && read_file(file("ready")) == "ready"; }
  [[nodiscard]] std::string images() const { return file("images"); }
  [[nodiscard]] std::string ask() const {
    ::unlink(file("verdict").c_str());
    write_file(file("asked"), "now");
    return wait_for(file("verdict")) ? read_file(file("verdict")) : "nothing";
  }
  void kill() {
    if (id_ <= 0) return;
    ::kill(id_, SIGKILL);
    while (::waitpid(id_, nullptr, 0) < 0 && errno == EINTR) {
    }
    id_ = -1;
  }

 private:
  [[nodiscard]] std::string file(const char* name) const { return folder_ + "/" + name; }
  [[noreturn]] void be(std::size_t count, const std::function<bool()>& prepare) const {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::closefrom(0);
    for (int i = 0; i < 3; ++i) static_cast<void>(!::open("/dev/null", O_RDWR));
    const Pages pages(count);
    write_file(file("ready"), prepare() ? "ready" : "no");
    for (;;) {
      while (!exists(file("asked"))) std::this_thread::sleep_for(2ms);
      ::unlink(file("asked").c_str());
      write_file(file("verdict"), pages.right() ? "right" : "WRONG");
    }
  }

  std::string folder_;
  pid_t id_ = -1;
  bool ready_ = false;
};

std::string words(const Error& error, const std::vector<std::string>& refusals) {
  std::string text = describe(error);
  for (const std::string& line : refusals) text += "; " + line;
  return text;
}

/// Takes an image, which must work.
void save(pid_t process, const std::string& directory) {
  ProcessSaverOptions options;
  options.directory = directory;
  auto saver = ProcessSaver::attach(process, options);
  ASSERT_TRUE(saver) << describe(saver.error());
  const auto saved = saver->checkpoint();
  ASSERT_TRUE(saved) << words(saved.error(), saver->refusals());
}

/// Restarts it, which must work, and returns what it answers.
std::string restarted_answer(const Asked& asked, RestartMode mode) {
  std::vector<std::string> refusals;
  RestartOptions options;
  options.mode = mode;
  auto process = RestartedProcess::start(asked.images(), options, refusals);
  if (!process) return words(process.error(), refusals);
  const std::string answer = asked.ask();
  ::kill(process->id(), SIGKILL);
  process->wait();
  return answer;
}

TEST(FoundBySoak, NoImageBeforeALazyRestartHasAllItsPages) {
  if (::getuid() != 0) GTEST_SKIP() << "lazy restarts are for root";
  const Folder folder;
  Asked asked(folder, 64 * 1024);  // 256 MiB
  ASSERT_TRUE(asked.ready());
  save(asked.id(), asked.images());
  asked.kill();
  std::vector<std::string> refusals;
  RestartOptions options;
  options.mode = RestartMode::lazy;
  auto process = RestartedProcess::start(asked.images(), options, refusals);
  ASSERT_TRUE(process) << words(process.error(), refusals);
  ProcessSaverOptions saving;
  saving.directory = asked.images();
  auto saver = ProcessSaver::attach(process->id(), saving);
  ASSERT_TRUE(saver) << describe(saver.error());
  const auto early = saver->checkpoint();
  EXPECT_FALSE(early) << "256 MiB came in no time?";
  EXPECT_THAT(saver->refusals(), testing::Contains(HasSubstr("still to come")));
  ASSERT_TRUE(process->finish());
  const auto saved = saver->checkpoint();
  ASSERT_TRUE(saved) << words(saved.error(), saver->refusals());
  EXPECT_EQ(asked.ask(), "right");
  ::kill(process->id(), SIGKILL);
  process->wait();
  EXPECT_EQ(restarted_answer(asked, RestartMode::eager), "right");
}

// Numbers of processes and threads begin anew after the largest one.
TEST(FoundBySoak, AThreadMayHaveASmallerNumberThanItsProcess) {
  if (::getuid() != 0) GTEST_SKIP() << "only root can choose numbers";
  const Folder folder;
  std::thread waiting;
  Asked asked(folder, 16, [&] {
    std::ofstream last("/proc/sys/kernel/ns_last_pid");
    last << 310 << std::flush;
    if (!last.good()) return false;
    waiting = std::thread([] {
      for (;;) ::pause();
    });
    return true;
  });
  ASSERT_TRUE(asked.ready());
  std::size_t smaller = 0;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/" + std::to_string(asked.id()) + "/task"))
    smaller += std::stoi(task.path().filename()) < asked.id() ? 1 : 0;
  if (smaller == 0) GTEST_SKIP() << "it has a larger one this time";
  save(asked.id(), asked.images());
  EXPECT_EQ(asked.ask(), "right");
  asked.kill();
  for (const RestartMode mode : {RestartMode::eager, RestartMode::mapped})
    EXPECT_EQ(restarted_answer(asked, mode), "right");
}

TEST(FoundBySoak, TheNumberOfAThreadMayBeSomebodyElsesByNow) {
  if (::getuid() != 0) GTEST_SKIP() << "only root can choose numbers";
  const Folder folder;
  std::thread waiting;
  Asked asked(folder, 16, [&] {
    waiting = std::thread([] {
      for (;;) ::pause();
    });
    return true;
  });
  ASSERT_TRUE(asked.ready());
  pid_t thread = 0;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/" + std::to_string(asked.id()) + "/task"))
    if (const int number = std::stoi(task.path().filename()); number != asked.id()) thread = number;
  ASSERT_NE(thread, 0);
  save(asked.id(), asked.images());
  asked.kill();
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<std::uint64_t>(&thread);
  arguments.set_tid_size = 1;
  const auto other = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
  if (other == 0)
    for (;;) ::pause();
  if (other < 0) GTEST_SKIP() << "somebody has it already: " << std::strerror(errno);
  EXPECT_EQ(restarted_answer(asked, RestartMode::eager), "right");
  ::kill(other, SIGKILL);
  ::waitpid(other, nullptr, 0);
}

// In a namespace, since the first process is there still; its end was waited for in vain.
TEST(FoundBySoak, ARestartThatFailsSaysWhyAndEnds) {
  const Folder folder;
  const std::string place = folder.path() + "/place";
  std::filesystem::create_directory(place);
  Asked asked(folder, 16, [&] { return ::chdir(place.c_str()) == 0; });
  ASSERT_TRUE(asked.ready());
  save(asked.id(), asked.images());
  std::filesystem::remove(place);
  std::vector<std::string> refusals;
  RestartOptions options;
  options.mode = RestartMode::eager;
  const auto process = RestartedProcess::start(asked.images(), options, refusals);
  ASSERT_FALSE(process);
  EXPECT_THAT(words(process.error(), refusals), HasSubstr("current directory " + place));
  EXPECT_EQ(asked.ask(), "right");
}

}  // namespace
}  // namespace pagetrap::checkpoint
