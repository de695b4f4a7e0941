#include "harness/peer.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <exception>

namespace pagetrap::bench {

namespace {

[[noreturn]] void serve(Report& report, const std::function<Peer::Batch()>& make, int commands,
                        int answers) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  try {
    const Peer::Batch batch = make();
    char command = 0;
    double cost = 0;  // the first answer only says that all is made
    while (write(answers, &cost, sizeof cost) == static_cast<ssize_t>(sizeof cost) &&
           read(commands, &command, 1) == 1) {
      cost = batch();
    }
  } catch (const std::exception& error) {
    report.fail(error.what());
  }
  _exit(0);
}

}  // namespace

Peer::Peer(Report& report, const std::function<Batch()>& make) : report_(report) {
  std::array<int, 2> commands{};
  std::array<int, 2> answers{};
  report.check(pipe(commands.data()) == 0 && pipe(answers.data()) == 0, "pipe");
  process_ = fork();
  report.check(process_ >= 0, "fork");
  if (process_ == 0) {
    close(commands[1]);
    close(answers[0]);
    serve(report, make, commands[0], answers[1]);
  }
  close(commands[0]);
  close(answers[1]);
  to_peer_ = commands[1];
  from_peer_ = answers[0];
  wait_for_answer();
}

Peer::~Peer() {
  close(to_peer_);  // its read ends, and so does it
  close(from_peer_);
  waitpid(process_, nullptr, 0);
}

double Peer::measure() {
  const char command = 'm';
  report_.check(write(to_peer_, &command, 1) == 1, "a measuring process of two is gone");
  return wait_for_answer();
}

bool Peer::try_measure(double& cost) {
  const char command = 'm';
  return write(to_peer_, &command, 1) == 1 &&
         read(from_peer_, &cost, sizeof cost) == static_cast<ssize_t>(sizeof cost);
}

double Peer::wait_for_answer() {
  double cost = 0;
  const bool answered = read(from_peer_, &cost, sizeof cost) == static_cast<ssize_t>(sizeof cost);
  report_.check(answered, "a measuring process of two ended early");
  return cost;
}

}  // namespace pagetrap::bench
