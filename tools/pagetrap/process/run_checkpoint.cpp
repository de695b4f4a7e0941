// pagetrap run --checkpoint: the program is a child, and this process saves it.
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include <pagetrap/checkpoint/protocol.hpp>

#include "../run/launch.hpp"
#include "options.hpp"
#include "requests.hpp"
#include "supervise.hpp"

namespace pagetrap::tool {

using namespace launch;

namespace {

constexpr int kCannotExecute = 126;  // as shells do
constexpr int kNotFound = 127;

// Pipes and sockets of whoever ran this command: no image could have them, and hardly any program
// looks for something above standard error.
void close_foreign() {
  std::error_code error;
  std::vector<int> numbers;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error))
    numbers.push_back(std::atoi(entry.path().filename().c_str()));
  for (const int number : numbers) {
    struct stat what {};
    if (number > STDERR_FILENO && ::fstat(number, &what) == 0 &&
        (S_ISFIFO(what.st_mode) || S_ISSOCK(what.st_mode)))
      ::close(number);
  }
}

[[noreturn]] void become_program(const RunRequest& request) {
  process::unblock_signals();
  close_foreign();
  std::vector<char*> words;
  for (const std::string& word : request.program) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  ::execvp(words[0], words.data());
  const int error = errno;
  std::fprintf(stderr, "pagetrap: run: %s: %s\n", words[0], std::strerror(error));
  ::_exit(error == ENOENT ? kNotFound : kCannotExecute);
}

}  // namespace

int run_checkpoint(const RunRequest& request) {
  process::Supervision supervision;
  if (const std::string wrong = process::saver_options(request.checkpoint, supervision.saving);
      !wrong.empty())
    return usage("run: " + wrong);
  std::error_code error;
  std::filesystem::create_directories(supervision.saving->directory, error);
  if (error)
    return unable("run: " + supervision.saving->directory + ": " + error.message(),
                  "A directory that can be written to is needed for the images.");
  supervision.report = request.report;
  supervision.saving->socket = process::new_socket();
  set(checkpoint::protocol::kVariable, supervision.saving->socket);
  supervision.listener = process::listen_at(supervision.saving->socket);
  process::block_signals();
  const pid_t child = ::fork();
  if (child < 0)
    return unable(std::string("run: fork: ") + std::strerror(errno), "There may be a limit.");
  if (child == 0) become_program(request);
  supervision.process = child;
  supervision.wait = [child] {
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
  };
  return process::supervise(supervision);
}

}  // namespace pagetrap::tool
