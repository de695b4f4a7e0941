// Interval timers, and POSIX timers.
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <thread>

#include "stage.hpp"

namespace subject {
namespace {

std::array<std::atomic<int>, 65> counts{};
std::atomic<int> last_value{0};
void count_signal(int signal, siginfo_t* info, void*) {
  ++counts[static_cast<std::size_t>(signal)];
  if (info->si_value.sival_int != 0) last_value = info->si_value.sival_int;
}
void handle(int signal) {
  struct sigaction action {};
  action.sa_sigaction = count_signal;
  action.sa_flags = SA_RESTART | SA_SIGINFO;
  ::sigaction(signal, &action, nullptr);
}
int counted(int signal) { return counts[static_cast<std::size_t>(signal)]; }

// Uses the processor, until it is so or seconds are over.
template <class Condition>
bool spin_until(Condition condition) {
  timespec start{};
  ::clock_gettime(CLOCK_MONOTONIC, &start);
  for (;;) {
    for (int i = 0; i < 20'000; ++i) asm volatile("");
    if (condition()) return true;
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec > start.tv_sec + 8) return false;
  }
}

const Registered kIntervals("interval_timers", [](Stage& stage) {
  for (const int signal : {SIGALRM, SIGVTALRM, SIGPROF}) handle(signal);
  const itimerval real{{0, 20'000}, {0, 20'000}};
  const itimerval processor{{0, 10'000}, {0, 10'000}};
  must(::setitimer(ITIMER_REAL, &real, nullptr), "setitimer");
  must(::setitimer(ITIMER_VIRTUAL, &processor, nullptr), "setitimer");
  must(::setitimer(ITIMER_PROF, &processor, nullptr), "setitimer");
  stage.wait_for_go();
  const int alarms = counted(SIGALRM);
  const int virtuals = counted(SIGVTALRM);
  const int profiles = counted(SIGPROF);
  stage.expect(spin_until([&] { return counted(SIGALRM) > alarms + 2; }), "ITIMER_REAL");
  stage.expect(spin_until([&] { return counted(SIGVTALRM) > virtuals + 2; }), "ITIMER_VIRTUAL");
  stage.expect(spin_until([&] { return counted(SIGPROF) > profiles + 2; }), "ITIMER_PROF");
  itimerval now{};
  ::getitimer(ITIMER_REAL, &now);
  stage.expect(now.it_interval.tv_usec == 20'000, "the interval");
});

timer_t make_timer(int clock, sigevent event) {
  timer_t timer{};
  must(::timer_create(clock, &event, &timer), "timer_create");
  return timer;
}
void set(timer_t timer, long seconds, long nanoseconds, long interval_seconds = 0,
         long interval_nanoseconds = 0) {
  const itimerspec times{{interval_seconds, interval_nanoseconds}, {seconds, nanoseconds}};
  must(::timer_settime(timer, 0, &times, nullptr), "timer_settime");
}
itimerspec times_of(timer_t timer) {
  itimerspec times{};
  must(::timer_gettime(timer, &times), "timer_gettime");
  return times;
}

const Registered kPosix("posix_timers", [](Stage& stage) {
  handle(SIGUSR1);
  handle(SIGRTMIN + 4);
  sigevent signal{};
  signal.sigev_notify = SIGEV_SIGNAL;
  signal.sigev_signo = SIGUSR1;
  signal.sigev_value.sival_int = 4242;
  sigevent none{};
  none.sigev_notify = SIGEV_NONE;
  sigevent to_thread{};
  to_thread.sigev_notify = SIGEV_THREAD_ID;
  to_thread.sigev_signo = SIGRTMIN + 4;
  to_thread._sigev_un._tid = ::gettid();
  // Ids with gaps.
  std::array<timer_t, 12> all{};
  for (timer_t& each : all) each = make_timer(CLOCK_MONOTONIC, none);
  for (const std::size_t i : {0U, 1U, 4U, 5U, 6U, 9U}) must(::timer_delete(all[i]), "timer_delete");
  const timer_t ticking = make_timer(CLOCK_MONOTONIC, signal);
  set(ticking, 0, 15'000'000, 0, 15'000'000);
  const timer_t mine = make_timer(CLOCK_REALTIME, to_thread);
  set(mine, 0, 15'000'000, 0, 15'000'000);
  set(all[2], 1000, 0, 50, 0);
  set(all[3], 0, 1);  // is over
  const timer_t boot = make_timer(CLOCK_BOOTTIME, signal);
  stage.wait_for_go();
  stage.expect(times_of(all[2]).it_value.tv_sec > 900 && times_of(all[2]).it_interval.tv_sec == 50,
               "SIGEV_NONE");
  stage.expect(times_of(all[3]).it_value.tv_sec == 0 && times_of(all[3]).it_value.tv_nsec == 0,
               "one that is over");
  stage.expect(times_of(all[11]).it_value.tv_sec == 0, "one that is off");
  itimerspec times{};
  stage.expect(::syscall(SYS_timer_gettime, all[4], &times) == -1 && errno == EINVAL,
               "none in a gap");
  const int before = counted(SIGUSR1);
  stage.expect(spin_until([&] { return counted(SIGUSR1) > before + 1; }), "SIGEV_SIGNAL");
  last_value = 0;
  stage.expect(spin_until([&] { return last_value == 4242; }), "its value");
  const int threads = counted(SIGRTMIN + 4);
  stage.expect(spin_until([&] { return counted(SIGRTMIN + 4) > threads + 1; }), "SIGEV_THREAD_ID");
  must(::timer_delete(ticking), "timer_delete");
  set(boot, 0, 1);
  stage.expect(spin_until([&] { return counted(SIGUSR1) > before; }), "one set afterwards");
  const timer_t fresh = make_timer(CLOCK_MONOTONIC, none);
  for (const timer_t each : all) stage.expect(each != fresh || each == all[0], "a new id is new");
  must(::timer_delete(all[10]), "timer_delete");
});

std::atomic<int> rung{0};
void ring(sigval value) { rung += value.sival_int; }

const Registered kThreads("thread_timers", [](Stage& stage) {
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD;
  event.sigev_notify_function = ring;
  event.sigev_value.sival_int = 1;
  const timer_t timer = make_timer(CLOCK_MONOTONIC, event);
  set(timer, 0, 10'000'000, 0, 10'000'000);
  stage.expect(spin_until([] { return rung > 1; }), "before the cut");
  stage.wait_for_go();
  const int before = rung;
  stage.expect(spin_until([&] { return rung > before + 2; }), "it goes on ringing");
  must(::timer_delete(timer), "timer_delete");
  set(make_timer(CLOCK_MONOTONIC, event), 0, 1'000'000);
  const int until = rung;
  stage.expect(spin_until([&] { return rung > until; }), "a new one");
});

const Registered kPendingTimers("pending_timers", [](Stage& stage) {
  sigset_t set_of;
  ::sigemptyset(&set_of);
  ::sigaddset(&set_of, SIGRTMIN + 6);
  ::sigaddset(&set_of, SIGALRM);
  ::sigprocmask(SIG_BLOCK, &set_of, nullptr);
  sigevent signal{};
  signal.sigev_notify = SIGEV_SIGNAL;
  signal.sigev_signo = SIGRTMIN + 6;
  signal.sigev_value.sival_int = 12;
  const timer_t timer = make_timer(CLOCK_MONOTONIC, signal);
  set(timer, 0, 1, 0, 10'000'000);
  const itimerval alarm{{0, 10'000}, {0, 1}};
  must(::setitimer(ITIMER_REAL, &alarm, nullptr), "setitimer");
  sleep_ms(30);
  stage.wait_for_go();
  siginfo_t info{};
  const timespec soon{3, 0};
  ::sigdelset(&set_of, SIGALRM);
  for (int i = 0; i < 4; ++i) {
    stage.expect(::sigtimedwait(&set_of, &info, &soon) == SIGRTMIN + 6,
                 "expiration " + std::to_string(i));
    stage.expect(info.si_value.sival_int == 12 && info.si_code == SI_TIMER, "its value");
  }
  ::sigemptyset(&set_of);
  ::sigaddset(&set_of, SIGALRM);
  for (int i = 0; i < 4; ++i)
    stage.expect(::sigtimedwait(&set_of, &info, &soon) == SIGALRM, "alarm " + std::to_string(i));
});

}  // namespace
}  // namespace subject
