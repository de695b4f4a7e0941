#include "checkpoint/process/support.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace pagetrap::checkpoint {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kPatience{10};

// A process that waits for something that does not come says at least where.
std::string whereabouts(pid_t process) {
  std::string words;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/" + std::to_string(process) + "/task")) {
    const std::string folder = task.path().string();
    words += task.path().filename().string() + ": " + read_file(folder + "/syscall");
  }
  return words;
}

}  // namespace

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_file(const std::string& path, const std::string& text) {
  {
    std::ofstream file(path + ".new");
    file << text;
  }
  std::filesystem::rename(path + ".new", path);
}

bool wait_for_file(const std::string& path, pid_t process) {
  const auto deadline = Clock::now() + kPatience;
  while (Clock::now() < deadline) {
    if (std::filesystem::exists(path)) return true;
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(process), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_pid == process)
      return std::filesystem::exists(path);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  return all;
}

Subject::Subject(const std::string& scenario, const std::vector<std::string>& before) {
  std::vector<std::string> words = before;
  for (const std::string& word : {std::string(PAGETRAP_SUBJECT), scenario, folder_.path()})
    words.push_back(word);
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  id_ = ::fork();
  if (id_ != 0) return;
  // Nothing of what the test was given.
  ::syscall(SYS_close_range, 0, ~0U, 0);
  ::open("/dev/null", O_RDWR);
  static_cast<void>(!::dup(0));
  ::open(folder_.file("errors").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::execvp(pointers.front(), pointers.data());
  ::_exit(127);
}

Subject::~Subject() { kill(); }

bool Subject::is_ready(std::string& why) {
  const bool ready = wait_for_file(file("ready"), id_);
  if (ready) return true;
  why = read_file(file("skip"));
  EXPECT_FALSE(why.empty()) << "the subject did not get ready: " << read_file(file("errors"));
  return false;
}

void Subject::tell(const std::string& name, const std::string& words) const {
  write_file(file(name), words);
}

void Subject::forget(const std::string& name) const { std::filesystem::remove(file(name)); }

std::string Subject::finish() {
  tell("go", "original");
  const int status = wait();
  forget("go");
  if (status == -1) return "it does not end";
  if (!std::filesystem::exists(file("verdict.original")))
    return "it ended with status " + std::to_string(status);
  return read_file(file("verdict.original"));
}

int Subject::wait() {
  const auto deadline = Clock::now() + kPatience;
  while (Clock::now() < deadline) {
    int status = 0;
    if (::waitpid(id_, &status, WNOHANG) == id_) {
      id_ = 0;
      return status;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::printf("%s", whereabouts(id_).c_str());
  return -1;
}

void Subject::kill() {
  if (id_ <= 0) return;
  ::kill(id_, SIGKILL);
  EXPECT_NE(wait(), -1) << "it cannot be killed";
  id_ = 0;
}

const char* name_of(RestartMode mode) {
  switch (mode) {
    case RestartMode::eager:
      return "eager";
    case RestartMode::mapped:
      return "mapped";
    case RestartMode::lazy:
      return "lazy";
    case RestartMode::automatic:
      return "automatic";
  }
  return "";
}

std::string restart_and_finish(const Subject& subject, RestartMode mode, const std::string& image) {
  std::vector<std::string> refusals;
  RestartOptions options;
  options.mode = mode;
  auto restarted =
      RestartedProcess::start(image.empty() ? subject.images() : image, options, refusals);
  if (!restarted) return describe(restarted.error()) + "\n" + joined(refusals);
  const std::string verdict = "verdict." + std::string(name_of(mode));
  std::filesystem::remove(subject.file(verdict));
  subject.tell("go", name_of(mode));
  const bool came = wait_for_file(subject.file(verdict), restarted->id());
  if (!came) {
    if (::kill(restarted->id(), 0) == 0) std::printf("%s", whereabouts(restarted->id()).c_str());
    ::kill(restarted->id(), SIGKILL);
  }
  const auto finished = restarted->finish();
  const int status = restarted->wait();
  subject.forget("go");
  if (!came) return "restarted, it does not come to an end, or ended as " + std::to_string(status);
  if (!finished && finished.error().number != ESRCH) return describe(finished.error());
  const std::string words = read_file(subject.file(verdict));
  if (words == "right" && status != 0) return "right, but it ended as " + std::to_string(status);
  return words;
}

}  // namespace pagetrap::checkpoint
