// What doctor says of whole processes: one is saved and restarted, to see how far it goes.
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include <pagetrap/checkpoint/process.hpp>

#include "../doctor/examination.hpp"

namespace pagetrap::tool {
namespace {

using checkpoint::ProcessSaver;
using checkpoint::RestartedProcess;
using checkpoint::RestartMode;

[[noreturn]] void sleep_in_child() {
  ::syscall(SYS_close_range, 3, ~0U, 0);  // what a caller has open is not the question
  for (;;) ::pause();
}

void end(pid_t child) {
  ::kill(child, SIGKILL);
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::string words_of(const Error& error, const std::vector<std::string>& refusals) {
  std::string words = describe(error);
  for (const std::string& line : refusals) words += "; " + line;
  return words;
}

// Whether it could be restarted so; if not, why.
std::string try_restart(const std::string& folder, RestartMode mode, bool& own_namespace) {
  std::vector<std::string> refusals;
  checkpoint::RestartOptions options;
  options.mode = mode;
  auto started = RestartedProcess::start(folder, options, refusals);
  if (!started) return words_of(started.error(), refusals);
  own_namespace = started->id() != started->id_inside();
  ::kill(started->id(), SIGKILL);
  static_cast<void>(started->finish());  // it was killed: there is nothing to be had
  started->wait();
  return {};
}

}  // namespace

ProcessFinding examine_processes() {
  ProcessFinding finding;
  std::string folder = (std::filesystem::temp_directory_path() / "pagetrap-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) {
    finding.problem = folder + ": " + std::strerror(errno);
    return finding;
  }
  const pid_t child = ::fork();
  if (child == 0) sleep_in_child();
  checkpoint::ProcessSaverOptions options;
  options.directory = folder;
  if (auto saver = ProcessSaver::attach(child, options); !saver) {
    finding.problem = describe(saver.error());
  } else if (const auto first = saver->checkpoint(); !first) {
    finding.problem = words_of(first.error(), saver->refusals());
  } else {
    finding.saved = true;
    finding.frozen_us = first->frozen_us;
    finding.tracked = first->tracked;
  }
  end(child);
  if (finding.saved) {
    finding.restart_problem = try_restart(folder, RestartMode::eager, finding.own_namespace);
    bool ignored = false;
    finding.lazy_problem = try_restart(folder, RestartMode::lazy, ignored);
  }
  std::error_code error;
  std::filesystem::remove_all(folder, error);
  return finding;
}

}  // namespace pagetrap::tool
