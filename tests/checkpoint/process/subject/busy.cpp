// Programs that are busy while they are saved again and again.
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <thread>
#include <vector>

#include "stage.hpp"

namespace subject {
namespace {

volatile std::sig_atomic_t alarms = 0;
void count_alarm(int) { alarms = alarms + 1; }

const Registered kStorm("busy_signals", [](Stage& stage) {
  struct sigaction action {};
  action.sa_handler = count_alarm;
  ::sigaction(SIGALRM, &action, nullptr);
  const itimerval every{{0, 1000}, {0, 1000}};
  must(::setitimer(ITIMER_REAL, &every, nullptr), "setitimer");
  stage.say("ready");
  // System calls and computing, both hit by signals.
  std::uint64_t sum = 0;
  std::uint64_t turns = 0;
  std::array<int, 2> ends{};
  must(::pipe(ends.data()), "pipe");
  while (!stage.was_told("go")) {
    for (std::uint64_t i = 0; i < 20'000; ++i) sum += i;
    asm volatile("" : "+r"(sum));
    ++turns;
    const int here = static_cast<int>(turns);
    while (::write(ends[1], &here, sizeof here) != sizeof here) {
    }
    int back = 0;
    while (::read(ends[0], &back, sizeof back) != sizeof back) {
    }
    if (back != here) stage.expect(false, "what was written is read");
  }
  stage.expect(sum == turns * (20'000ULL * 19'999 / 2), "the sum");
  stage.expect(alarms > 50, "signals came: " + std::to_string(alarms));
  const int before = alarms;
  for (int i = 0; i < 1000 && alarms == before; ++i) sleep_ms(1);
  stage.expect(alarms > before, "signals go on coming");
  stage.wait_for_go();
});

const Registered kThreads("busy_threads", [](Stage& stage) {
  stage.say("ready");
  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> begun{0};
  std::atomic<std::uint64_t> ended{0};
  std::vector<std::thread> makers;
  for (int i = 0; i < 2; ++i)
    makers.emplace_back([&] {
      while (!over) {
        std::thread([&] {
          ++begun;
          std::thread([&] { ++begun, ++ended; }).join();
          ++ended;
        }).join();
      }
    });
  while (!stage.was_told("go")) sleep_ms(1);
  over = true;
  for (std::thread& each : makers) each.join();
  stage.expect(begun == ended && begun > 100, "threads: " + std::to_string(begun));
  stage.wait_for_go();
});

// Becomes itself again and again.
const Registered kExec("busy_exec", [](Stage& stage) {
  if (stage.was_told("go")) {
    stage.wait_for_go();
    return;
  }
  stage.say("ready");
  const std::string folder = stage.folder();
  sleep_ms(3);
  ::execl("/proc/self/exe", "process_subject", "busy_exec", folder.c_str(), nullptr);
  ::_exit(9);
});

const Registered kEnds("busy_ends", [](Stage& stage) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([] {
      for (;;) asm volatile("");
    });
  stage.say("ready");
  stage.wait_for("end");
  ::_exit(42);
});

const Registered kStopped("busy_counting", [](Stage& stage) {
  std::atomic<std::uint64_t> count{0};
  std::atomic<bool> over{false};
  std::thread thread([&] {
    while (!over) ++count;
  });
  stage.wait_for_go();
  const std::uint64_t before = count;
  sleep_ms(30);
  stage.expect(count > before, "its threads run");
  over = true;
  thread.join();
});

}  // namespace
}  // namespace subject
