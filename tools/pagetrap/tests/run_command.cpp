#include "run_command.hpp"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace pagetrap::tool::test {
namespace {

[[noreturn]] void become(const std::string& path, const std::vector<std::string>& arguments,
                         unsigned uid, int output, int errors) {
  dup2(output, STDOUT_FILENO);
  dup2(errors, STDERR_FILENO);
  std::vector<char*> words{const_cast<char*>(path.c_str())};
  for (const auto& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  // Opened before the rights go: the build folder may be closed to others.
  const int program = open(path.c_str(), O_PATH);
  if (uid != 0 && (setgroups(0, nullptr) != 0 || setgid(uid) != 0 || setuid(uid) != 0)) _exit(97);
  fexecve(program, words.data(), environ);
  _exit(98);
}

/// Reads both ends until they close.
void drain(std::array<int, 2> ends, Ran& ran) {
  std::array<std::string*, 2> texts{&ran.output, &ran.errors};
  std::array<pollfd, 2> waits{{{ends[0], POLLIN, 0}, {ends[1], POLLIN, 0}}};
  while (waits[0].fd >= 0 || waits[1].fd >= 0) {
    if (poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) return;
    for (std::size_t i = 0; i < waits.size(); ++i) {
      if (waits[i].fd < 0 || waits[i].revents == 0) continue;
      std::array<char, 4096> buffer{};
      const ssize_t length = read(waits[i].fd, buffer.data(), buffer.size());
      if (length > 0) {
        texts[i]->append(buffer.data(), static_cast<std::size_t>(length));
      } else {
        waits[i].fd = -1;
      }
    }
  }
}

}  // namespace

Ran run_program(const std::string& path, const std::vector<std::string>& arguments, unsigned uid) {
  std::array<int, 2> output{};
  std::array<int, 2> errors{};
  if (pipe2(output.data(), O_CLOEXEC) != 0 || pipe2(errors.data(), O_CLOEXEC) != 0) {
    throw std::system_error(errno, std::generic_category(), "pipe2");
  }
  const pid_t child = fork();
  if (child == 0) become(path, arguments, uid, output[1], errors[1]);
  close(output[1]);
  close(errors[1]);
  Ran ran;
  drain({output[0], errors[0]}, ran);
  close(output[0]);
  close(errors[0]);
  int status = 0;
  waitpid(child, &status, 0);
  ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ran;
}

Ran run_command(const std::vector<std::string>& arguments, unsigned uid) {
  return run_program(PAGETRAP_COMMAND, arguments, uid);
}

}  // namespace pagetrap::tool::test
