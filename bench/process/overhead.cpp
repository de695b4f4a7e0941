// process.run_overhead: a program under `pagetrap run --checkpoint` of which no image is taken.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "checkpoint/image_file.hpp"
#include "harness/clock.hpp"
#include "harness/pairs.hpp"
#include "harness/program.hpp"
#include "process/questions.hpp"

namespace pagetrap::bench {

namespace {

constexpr const char* kPython = R"(
import sys
data = {}
for i in range(int(sys.argv[1])):
    data[i * 7919 % 100003] = str(i)
)";

double run_ns(const Words& words, Report& report) {
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  const double begin = now_ns();
  const pid_t child = fork();
  report.check(child >= 0, "fork");
  if (child == 0) {
    closefrom(0);
    open("/dev/null", O_RDWR);
    static_cast<void>(!dup(0));
    static_cast<void>(!dup(0));
    execv(pointers[0], pointers.data());
    _exit(127);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  const double taken = now_ns() - begin;
  report.check(WIFEXITED(status) && WEXITSTATUS(status) == 0, words[0] + " failed");
  return taken;
}

void measure(const Effort& effort, Report& report) {
  const std::string python = find_program("python3");
  if (python.empty()) report.skip("python3 is not installed");
  const ScratchDirectory scratch(report);
  const Words plain{python, "-c", kPython, effort.quick ? "1000000" : "4000000"};
  Words ours{own_command(), "run", "--checkpoint", scratch.file("images"), "--"};
  ours.insert(ours.end(), plain.begin(), plain.end());
  interleave(
      with_fewer_pairs(effort, effort.quick ? 3 : 15), report, [&] { return run_ns(ours, report); },
      [&] { return run_ns(plain, report); });
}

}  // namespace

void add_process_overhead(Questions& questions) {
  questions.push_back(
      {.id = "process.run_overhead",
       .asks = "time that python3 takes under `run --checkpoint`, no image being taken",
       .ours = "python3 under run --checkpoint",
       .rival = "python3",
       .unit = "ns",
       .target = 1.02,
       .measure = measure,
       .scheduling = Scheduling::fair_group,
       .bound = "starting the command that watches over it, some milliseconds"});
}

}  // namespace pagetrap::bench
