#include "support.hpp"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <system_error>

namespace pagetrap::preload::test {
namespace fs = std::filesystem;

namespace {

std::array<int, 2> make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "pipe2");
  return ends;
}

void close_if_open(int& file) {
  if (file >= 0) close(file);
  file = -1;
}

/// Removed when the test program ends.
class Copies {
 public:
  Copies() {
    std::string name = (fs::temp_directory_path() / "pagetrap-preload-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr)
      throw std::system_error(errno, std::generic_category(), "mkdtemp");
    folder_ = name;
    chmod(name.c_str(), 0755);
    fs::create_directory(folder_ / "preload");
    fs::copy_file(PAGETRAP_COMMAND, folder_ / "pagetrap");
    fs::copy_file(PAGETRAP_SHIM, folder_ / "preload" / fs::path(PAGETRAP_SHIM).filename());
    fs::copy_file(PAGETRAP_WORKLOAD, folder_ / "workload");
  }
  ~Copies() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  Copies(const Copies&) = delete;
  Copies& operator=(const Copies&) = delete;
  fs::path folder_;
};

const fs::path& copies() {
  static const Copies the_copies;
  return the_copies.folder_;
}

}  // namespace

Process::Process(const Words& words, unsigned uid) {
  const auto in = make_pipe();
  const auto out = make_pipe();
  const auto err = make_pipe();
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  id_ = fork();
  if (id_ == 0) {
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    if (uid != 0 &&
        (setgroups(0, nullptr) != 0 || setgid(uid) != 0 || setuid(uid) != 0 || chdir("/tmp") != 0))
      _exit(97);
    execvp(pointers[0], pointers.data());
    _exit(98);
  }
  close(in[0]);
  close(out[1]);
  close(err[1]);
  input_ = in[1];
  output_ = out[0];
  errors_ = err[0];
  if (id_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
}

Process::~Process() {
  if (!reaped_ && id_ > 0) {
    kill(id_, SIGKILL);
    reap();
  }
  close_if_open(input_);
  close_if_open(output_);
  close_if_open(errors_);
}

void Process::signal(int number) const { kill(id_, number); }

void Process::reap() {
  while (waitpid(id_, &status_, 0) < 0 && errno == EINTR) {
  }
  reaped_ = true;
}

Ran Process::finish(const std::string& input, unsigned seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::seconds(seconds);
  Ran ran;
  std::size_t fed = 0;
  ::signal(SIGPIPE, SIG_IGN);
  if (input.empty()) close_if_open(input_);
  while (output_ >= 0 || errors_ >= 0) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
    if (left <= 0) {
      kill(id_, SIGKILL);
      break;
    }
    std::array<pollfd, 3> waits{{{output_, POLLIN, 0}, {errors_, POLLIN, 0}, {input_, POLLOUT, 0}}};
    if (poll(waits.data(), waits.size(), static_cast<int>(left)) < 0 && errno != EINTR) break;
    const std::array<std::pair<int*, std::string*>, 2> ends{
        {{&output_, &ran.output}, {&errors_, &ran.errors}}};
    for (std::size_t i = 0; i < 2; ++i) {
      if (*ends[i].first < 0 || waits[i].revents == 0) continue;
      std::array<char, 4096> buffer{};
      const ssize_t got = read(*ends[i].first, buffer.data(), buffer.size());
      if (got > 0) {
        ends[i].second->append(buffer.data(), static_cast<std::size_t>(got));
      } else {
        close_if_open(*ends[i].first);
      }
    }
    if (input_ >= 0 && waits[2].revents != 0) {
      const ssize_t put =
          write(input_, input.data() + fed, std::min<std::size_t>(4096, input.size() - fed));
      if (put > 0) fed += static_cast<std::size_t>(put);
      if (put < 0 || fed == input.size()) close_if_open(input_);
    }
  }
  reap();
  ran.status = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  return ran;
}

Ran run(const Words& words, const How& how) {
  Process process(words, how.uid);
  return process.finish(how.input, how.seconds);
}

std::string command() { return (copies() / "pagetrap").string(); }
std::string workload() { return (copies() / "workload").string(); }

Words under(const std::string& memory, const std::string& delivery, const Words& words,
            const std::string& report) {
  Words all{command(), "run", "--memory", memory, "--delivery", delivery};
  if (!report.empty()) all.insert(all.end(), {"--report", report});
  all.emplace_back("--");
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

std::string why_not(const std::string& delivery, unsigned uid) {
  const Ran ran = run(under("64M", delivery, {"/bin/true"}), {.uid = uid});
  return ran.status == 3 ? ran.errors : std::string();
}

std::string find_program(const std::string& name) {
  std::istringstream path("/usr/bin:/bin:/usr/local/bin");
  for (std::string folder; std::getline(path, folder, ':');) {
    const std::string file = folder + "/" + name;
    if (access(file.c_str(), X_OK) == 0) return file;
  }
  return {};
}

}  // namespace pagetrap::preload::test
