#include "guard/program_set.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>

#include "guard/workloads.hpp"

namespace pagetrap::bench {

namespace {

namespace fs = std::filesystem;

std::string find_cc1() {
  for (const char* const version : {"12", "13", "14"}) {
    std::string path = std::string("/usr/lib/gcc/x86_64-linux-gnu/") + version + "/cc1";
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return {};
}

[[noreturn]] void become(std::vector<char*>& words, const std::function<bool()>& before) {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int file : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null, file);
  if (before && !before()) _exit(125);
  execv(words[0], words.data());
  _exit(127);
}

}  // namespace

ProgramSet::ProgramSet(double share, Report& report) {
  setenv("PYTHONMALLOC", "malloc", 1);  // on both sides
  std::string name = (fs::temp_directory_path() / "pagetrap-guard-XXXXXX").string();
  report.check(mkdtemp(name.data()) != nullptr, "no folder for temporary files");
  folder_ = name;
  const auto of = [&](unsigned whole) {
    return std::max(1U, static_cast<unsigned>(std::lround(share * whole)));
  };
  std::ofstream(folder_ / "script.sql") << workloads::sql(of(40'000));
  std::ofstream(folder_ / "program.c") << workloads::c(of(250));
  const auto depth = static_cast<unsigned>(std::lround(15 + std::log2(share)));
  std::string missing;
  const auto add = [&](const char* program, const std::string& path, const Words& arguments) {
    if (path.empty()) {
      missing += (missing.empty() ? "" : ", ") + std::string(program);
      return;
    }
    Subject subject{program, {path}};
    subject.words.insert(subject.words.end(), arguments.begin(), arguments.end());
    subjects_.push_back(subject);
  };
  add("sqlite3", find_program("sqlite3"), {":memory:", ".read " + file("script.sql")});
  add("perl", find_program("perl"), {"-e", workloads::perl(of(60'000))});
  add("python3", find_program("python3"), {"-c", workloads::python(of(40'000))});
  add("lua5.4", find_program("lua5.4"), {"-e", workloads::lua(depth, of(60'000))});
  add("cc1", find_cc1(), {"-quiet", "-O1", file("program.c"), "-o", "/dev/null"});
  if (!missing.empty()) report.parameter("not_installed", missing);
  if (subjects_.size() < 2) report.skip("too few of the programs are installed: " + missing);
}

ProgramSet::~ProgramSet() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

std::string ProgramSet::keep_if(const std::function<bool(const Subject&)>& condition) {
  std::string others;
  std::erase_if(subjects_, [&](const Subject& subject) {
    if (condition(subject)) return false;
    others += (others.empty() ? "" : ", ") + subject.name;
    return true;
  });
  return others;
}

Finished run_to_end(const Words& words, Report& report, const std::function<bool()>& before,
                    const std::function<void(pid_t)>& meanwhile) {
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) become(pointers, before);
  report.check(child > 0, "no process");
  if (meanwhile) meanwhile(child);
  int status = 0;
  rusage usage{};
  report.check(wait4(child, &status, 0, &usage) == child, "a process is lost");
  const auto nanoseconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_usec) * 1e3;
  };
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime)};
}

void require_success(const Finished& finished, const Words& words, Report& report) {
  if (finished.status == 0) return;
  std::string all;
  for (const std::string& word : words) all += word + " ";
  report.fail("status " + std::to_string(finished.status) + " of " + all);
}

Words under_guard(const Words& options, const Words& words) {
  Words all{own_command(), "run"};
  all.insert(all.end(), options.begin(), options.end());
  all.emplace_back("--");
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

double mean_over(const ProgramSet& set, const std::function<double(const Subject&)>& cost) {
  double logarithms = 0;
  for (const Subject& subject : set.subjects()) logarithms += std::log(cost(subject));
  return std::exp(logarithms / static_cast<double>(set.subjects().size()));
}

}  // namespace pagetrap::bench
