#include "ran.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace pagetrap::tool {
namespace {

constexpr unsigned kPatience = 60;  // seconds

[[noreturn]] void become(std::vector<char*>& words, int output) {
  const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::dup2(nothing, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  ::alarm(kPatience);
  ::execv(words[0], words.data());
  ::_exit(127);
}

double nanoseconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_usec) * 1e3;
}

}  // namespace

Ran run_program(const Words& words) {
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "pipe2");
  const pid_t child = ::fork();
  if (child == 0) become(pointers, ends[1]);
  const int error = errno;
  ::close(ends[1]);
  Ran ran;
  std::array<char, 4096> buffer;
  for (ssize_t got = 0; child > 0 && (got = ::read(ends[0], buffer.data(), buffer.size())) > 0;)
    ran.output.append(buffer.data(), static_cast<std::size_t>(got));
  ::close(ends[0]);
  if (child < 0) throw std::system_error(error, std::generic_category(), "fork");
  int status = 0;
  rusage usage{};
  if (::wait4(child, &status, 0, &usage) != child)
    throw std::system_error(errno, std::generic_category(), "wait4");
  ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  ran.cpu_ns = nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime);
  return ran;
}

}  // namespace pagetrap::tool
