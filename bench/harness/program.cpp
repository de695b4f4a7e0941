#include "harness/program.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "harness/cpus.hpp"

namespace pagetrap::bench {

namespace {

constexpr int kNotJoined = 125;
constexpr int kNotStarted = 126;

std::array<int, 2> make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "pipe2");
  return ends;
}

[[noreturn]] void become(std::vector<char*>& words, const std::function<bool()>& before, int input,
                         int output) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (before && !before()) _exit(kNotJoined);
  signal(SIGPIPE, SIG_DFL);
  dup2(input, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  // The measuring process is waited for by the end of a pipe that all its children inherit.
  for (int descriptor = STDERR_FILENO + 1; descriptor < 256; ++descriptor)
    static_cast<void>(fcntl(descriptor, F_SETFD, FD_CLOEXEC));
  execv(words[0], words.data());
  _exit(kNotStarted);
}

}  // namespace

Program::Program(const Words& words, const std::function<bool()>& before) {
  const auto in = make_pipe();
  const auto out = make_pipe();
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  process_ = fork();
  if (process_ == 0) become(pointers, before, in[0], out[1]);
  close(in[0]);
  close(out[1]);
  to_program_ = in[1];
  from_program_ = out[0];
  if (process_ > 0) return;
  close(to_program_);
  close(from_program_);
  throw std::system_error(errno, std::generic_category(), "fork");
}

Program::~Program() {
  close(to_program_);
  close(from_program_);
  if (!reaped_) kill(process_, SIGKILL);
  wait();
}

bool Program::tell(const std::string& line) {
  const std::string all = line + '\n';
  return write(to_program_, all.data(), all.size()) == static_cast<ssize_t>(all.size());
}

bool Program::hear(std::string& line) {
  std::size_t end = 0;
  while ((end = heard_.find('\n')) == std::string::npos) {
    std::array<char, 512> buffer{};
    const ssize_t length = read(from_program_, buffer.data(), buffer.size());
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) return false;
    heard_.append(buffer.data(), static_cast<std::size_t>(length));
  }
  line = heard_.substr(0, end);
  heard_.erase(0, end + 1);
  return true;
}

bool Program::runs() {
  if (!reaped_ && waitpid(process_, &status_, WNOHANG) == process_) reaped_ = true;
  return !reaped_;
}

int Program::wait() {
  while (!reaped_ && waitpid(process_, &status_, 0) < 0 && errno == EINTR) {
  }
  reaped_ = true;
  return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
}

void Program::pin_to_cpu(int index) const { pin_thread_to_cpu(process_, index); }

std::size_t Program::memory_bytes() const {
  std::ifstream status("/proc/" + std::to_string(process_) + "/status");
  for (std::string word; status >> word;) {
    std::size_t kibibytes = 0;
    if (word == "RssAnon:" && status >> kibibytes) return kibibytes << 10;
  }
  return 0;
}

std::string find_program(const std::string& name) {
  for (const char* const folder : {"/usr/bin/", "/bin/", "/usr/local/bin/"})
    if (const std::string file = folder + name; access(file.c_str(), X_OK) == 0) return file;
  return {};
}

std::string own_command() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

}  // namespace pagetrap::bench
