// Descriptors without names: eventfd, timerfd, signalfd.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>

#include "stage.hpp"

namespace subject {
namespace {

std::uint64_t read_number(int descriptor) {
  std::uint64_t number = 0;
  return ::read(descriptor, &number, sizeof number) == sizeof number ? number : 0;
}

void add(int descriptor, std::uint64_t number) {
  must(::write(descriptor, &number, sizeof number), "write");
}

bool is_readable(int descriptor, int milliseconds) {
  pollfd poll{descriptor, POLLIN, 0};
  return ::poll(&poll, 1, milliseconds) == 1;
}

const Registered kEvents("eventfds", [](Stage& stage) {
  const int plain = static_cast<int>(must(::eventfd(7, 0), "eventfd"));
  const int semaphore =
      static_cast<int>(must(::eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC), "eventfd"));
  add(semaphore, 3);
  const int full = static_cast<int>(must(::eventfd(0, EFD_NONBLOCK), "eventfd"));
  add(full, 0xfffffffffffffffe);
  const int empty = static_cast<int>(must(::eventfd(0, EFD_NONBLOCK), "eventfd"));
  const int copy = static_cast<int>(must(::dup(plain), "dup"));
  stage.wait_for_go();
  add(copy, 1);
  stage.expect(read_number(plain) == 8, "its count");
  for (int i = 0; i < 3; ++i) stage.expect(read_number(semaphore) == 1, "a semaphore's count");
  stage.expect(read_number(semaphore) == 0 && errno == EAGAIN, "a semaphore at zero");
  stage.expect((::fcntl(semaphore, F_GETFD) & FD_CLOEXEC) != 0, "close-on-exec");
  const std::uint64_t one = 1;
  stage.expect(::write(full, &one, sizeof one) == -1 && errno == EAGAIN, "it is full");
  stage.expect(read_number(full) == 0xfffffffffffffffe, "the largest count");
  stage.expect(read_number(empty) == 0 && errno == EAGAIN, "an empty one");
});

int timer(int clock, int flags, itimerspec times) {
  const int descriptor =
      static_cast<int>(must(::timerfd_create(clock, TFD_NONBLOCK), "timerfd_create"));
  must(::timerfd_settime(descriptor, flags, &times, nullptr), "timerfd_settime");
  return descriptor;
}

timespec from_now(int clock, int seconds, long nanoseconds = 0) {
  timespec now{};
  ::clock_gettime(clock, &now);
  now.tv_sec += seconds;
  now.tv_nsec += nanoseconds;
  if (now.tv_nsec >= 1'000'000'000) {
    now.tv_nsec -= 1'000'000'000;
    ++now.tv_sec;
  }
  return now;
}

const Registered kTimers("timerfds", [](Stage& stage) {
  const int once = timer(CLOCK_MONOTONIC, 0, {{0, 0}, {1000, 0}});
  const int ticking = timer(CLOCK_MONOTONIC, 0, {{0, 20'000'000}, {0, 20'000'000}});
  const int expired = timer(CLOCK_BOOTTIME, 0, {{0, 0}, {0, 1}});
  const int rung = timer(CLOCK_MONOTONIC, 0, {{100, 0}, {0, 1}});
  const int absolute =
      timer(CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, {{0, 0}, from_now(CLOCK_MONOTONIC, 500)});
  const int wall =
      timer(CLOCK_REALTIME, TFD_TIMER_ABSTIME, {{0, 0}, from_now(CLOCK_REALTIME, 0, 700'000'000)});
  const timespec wall_due = from_now(CLOCK_REALTIME, 0, 700'000'000);
  const int off = timer(CLOCK_REALTIME, 0, {});
  sleep_ms(70);
  stage.wait_for_go();
  itimerspec left{};
  ::timerfd_gettime(once, &left);
  stage.expect(left.it_value.tv_sec > 900 && left.it_value.tv_sec < 1000, "what is left of it");
  const std::uint64_t ticks = read_number(ticking);
  stage.expect(ticks >= 3, "expirations that were not read: " + std::to_string(ticks));
  stage.expect(is_readable(ticking, 1000), "it goes on ticking");
  stage.expect(read_number(expired) == 1 && read_number(expired) == 0, "it expired once");
  stage.expect(read_number(rung) == 1, "the first of many expirations");
  ::timerfd_gettime(rung, &left);
  stage.expect(left.it_interval.tv_sec == 100 && left.it_value.tv_sec > 90,
               "an interval after an expiration that was not read");
  ::timerfd_gettime(absolute, &left);
  stage.expect(left.it_value.tv_sec > 400 && left.it_value.tv_sec < 500, "an absolute time");
  // A time of day stays what it is, however long nothing ran.
  timespec now{};
  stage.expect(is_readable(wall, 2000) && read_number(wall) == 1, "a time of day");
  ::clock_gettime(CLOCK_REALTIME, &now);
  const double late = static_cast<double>(now.tv_sec - wall_due.tv_sec) +
                      1e-9 * static_cast<double>(now.tv_nsec - wall_due.tv_nsec);
  if (stage.run() == "original")
    stage.expect(late < 0.3, "a time of day, late by " + std::to_string(late));
  ::timerfd_gettime(off, &left);
  stage.expect(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0, "one that is off");
});

const Registered kSignals("signalfds", [](Stage& stage) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGUSR1, SIGUSR2, SIGRTMIN + 5}) ::sigaddset(&set, signal);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  const int descriptor =
      static_cast<int>(must(::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), "signalfd"));
  ::raise(SIGUSR1);
  for (int i = 0; i < 3; ++i) ::sigqueue(::getpid(), SIGRTMIN + 5, sigval{.sival_int = 40 + i});
  stage.wait_for_go();
  signalfd_siginfo info{};
  stage.expect(::read(descriptor, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR1 &&
                   info.ssi_pid == static_cast<std::uint32_t>(::getpid()),
               "a pending signal");
  for (int i = 0; i < 3; ++i)
    stage.expect(::read(descriptor, &info, sizeof info) == sizeof info && info.ssi_int == 40 + i,
                 "pending signals with values");
  stage.expect(::read(descriptor, &info, sizeof info) == -1 && errno == EAGAIN, "no more");
  ::kill(::getpid(), SIGUSR2);
  stage.expect(is_readable(descriptor, 0) &&
                   ::read(descriptor, &info, sizeof info) == sizeof info &&
                   info.ssi_signo == SIGUSR2,
               "a signal after it");
});

}  // namespace
}  // namespace subject
