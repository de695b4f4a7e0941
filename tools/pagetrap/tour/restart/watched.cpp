#include "watched.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>
#include <thread>

namespace pagetrap::tool {
namespace {

namespace fs = std::filesystem;

void open_as(int number, const std::string& path, int flags) {
  const int opened = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
  if (opened < 0 || ::dup2(opened, number) < 0) ::_exit(127);
}

[[noreturn]] void become(std::vector<char*>& words, const std::string& output,
                         const std::string& errors) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  open_as(STDIN_FILENO, "/dev/null", O_RDONLY);
  open_as(STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_TRUNC);
  open_as(STDERR_FILENO, errors, O_WRONLY | O_CREAT | O_TRUNC);
  // What this command's own parent left open is nobody's.
  ::closefrom(STDERR_FILENO + 1);
  ::execv(words[0], words.data());
  ::_exit(127);
}

void add_below(pid_t process, std::vector<pid_t>& out) {
  std::error_code gone;
  for (const auto& thread : fs::directory_iterator("/proc/" + std::to_string(process) + "/task",
                                                   fs::directory_options::none, gone)) {
    std::ifstream children(thread.path() / "children");
    for (pid_t child = 0; children >> child;) {
      out.push_back(child);
      add_below(child, out);
    }
  }
}

// It may be somebody else's to wait for: a zombie is as good as gone.
bool is_gone(pid_t process) {
  const std::string text = whole_file("/proc/" + std::to_string(process) + "/stat");
  const auto name_end = text.rfind(')');
  return name_end == std::string::npos || name_end + 2 >= text.size() || text[name_end + 2] == 'Z';
}

}  // namespace

Watched::Watched(const std::vector<std::string>& words, const std::string& output,
                 const std::string& errors) {
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  id_ = ::fork();
  if (id_ == 0) become(pointers, output, errors);
  if (id_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
}

Watched::~Watched() {
  if (runs()) kill_all();
}

bool Watched::runs() {
  if (id_ < 0) return false;
  int status = 0;
  if (::waitpid(id_, &status, WNOHANG) == 0) return true;
  status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  id_ = -1;
  return false;
}

void Watched::kill_all() {
  std::vector<pid_t> all{id_};
  add_below(id_, all);
  for (const pid_t each : all) ::kill(each, SIGKILL);
  while (runs()) sleep_for_a_moment();
  all.erase(all.begin());
  while (!std::all_of(all.begin(), all.end(), is_gone)) sleep_for_a_moment();
}

std::string whole_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::size_t lines_in(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

void sleep_for_a_moment() { std::this_thread::sleep_for(std::chrono::milliseconds(2)); }

}  // namespace pagetrap::tool
