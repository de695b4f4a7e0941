// Threads that wait in the kernel, each in another way. They were interrupted for nothing.
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <functional>
#include <thread>

#include "stage.hpp"

namespace subject {
namespace {

double now_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// `wait` waits in a thread, and returns what it did; `wake` ends that.
void wait_in(Stage& stage, const std::function<std::string()>& wait,
             const std::function<void(pthread_t)>& wake, bool is_timed = false) {
  std::atomic<bool> over{false};
  std::string outcome;
  std::thread thread([&] {
    outcome = wait();
    over = true;
  });
  sleep_ms(20);
  stage.expect(!over, "it waits before the cut");
  stage.wait_for_go();
  if (stage.run() == "original" || !is_timed) stage.expect(!over, "it waits still");
  wake(thread.native_handle());
  thread.join();
  stage.expect(outcome.empty(), outcome);
}
std::string unless(bool right, const char* what) {
  return right ? std::string() : std::string(what) + ", errno " + std::to_string(errno);
}
std::string long_enough(double seconds) {
  return seconds > 0.85 ? std::string() : "it waited too short: " + std::to_string(seconds);
}
void nothing(pthread_t) {}

int word = 0;
const Registered kFutex("in_futex", [](Stage& stage) {
  wait_in(
      stage,
      [] {
        const long result = ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
        return unless(result == 0 || errno == EAGAIN, "futex");
      },
      [](pthread_t) {
        word = 1;
        ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
      });
});

const Registered kSleep("in_nanosleep", [](Stage& stage) {
  const double start = now_seconds();
  wait_in(
      stage,
      [start] {
        const timespec time{0, 900'000'000};
        timespec left{};
        const int result = ::nanosleep(&time, &left);
        return unless(result == 0, "nanosleep") + long_enough(now_seconds() - start);
      },
      nothing, true);
});

const Registered kAbsolute("in_absolute_sleep", [](Stage& stage) {
  timespec until{};
  ::clock_gettime(CLOCK_MONOTONIC, &until);
  ++until.tv_sec;
  wait_in(
      stage,
      [until] {
        const int result = ::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
        timespec now{};
        ::clock_gettime(CLOCK_MONOTONIC, &now);
        return unless(result == 0, "clock_nanosleep") +
               unless(now.tv_sec > until.tv_sec ||
                          (now.tv_sec == until.tv_sec && now.tv_nsec >= until.tv_nsec),
                      "it woke too early");
      },
      nothing, true);
});

int event = -1;
void post(pthread_t) {
  const std::uint64_t one = 1;
  must(::write(event, &one, sizeof one), "write");
}

const Registered kPoll("in_poll", [](Stage& stage) {
  event = static_cast<int>(must(::eventfd(0, 0), "eventfd"));
  wait_in(
      stage,
      [] {
        pollfd poll{event, POLLIN, 0};
        return unless(::poll(&poll, 1, -1) == 1 && poll.revents == POLLIN, "poll");
      },
      post);
});

const Registered kTimeout("in_poll_with_timeout", [](Stage& stage) {
  event = static_cast<int>(must(::eventfd(0, 0), "eventfd"));
  const double start = now_seconds();
  wait_in(
      stage,
      [start] {
        pollfd poll{event, POLLIN, 0};
        const int result = ::poll(&poll, 1, 900);
        return unless(result == 0, "poll") + long_enough(now_seconds() - start);
      },
      nothing, true);
});

const Registered kEpoll("in_epoll_wait", [](Stage& stage) {
  event = static_cast<int>(must(::eventfd(0, 0), "eventfd"));
  const int epoll = static_cast<int>(must(::epoll_create1(0), "epoll_create1"));
  epoll_event wanted{EPOLLIN, {.u64 = 99}};
  must(::epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wanted), "epoll_ctl");
  wait_in(
      stage,
      [epoll] {
        epoll_event got{};
        const int result = ::epoll_wait(epoll, &got, 1, -1);
        return unless(result == 1 && got.data.u64 == 99, "epoll_wait");
      },
      post);
});

std::atomic<int> handled{0};
void handle_it(int) { ++handled; }
const Registered kSuspend("in_sigsuspend", [](Stage& stage) {
  struct sigaction action {};
  action.sa_handler = handle_it;
  ::sigaction(SIGUSR1, &action, nullptr);
  wait_in(
      stage,
      [] {
        sigset_t set;
        ::sigemptyset(&set);
        ::sigaddset(&set, SIGUSR1);
        ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
        sigset_t none;
        ::sigemptyset(&none);
        const int result = ::sigsuspend(&none);
        sigset_t mask;
        ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
        return unless(result == -1 && errno == EINTR && handled == 1, "sigsuspend") +
               unless(::sigismember(&mask, SIGUSR1) == 1, "the mask afterwards");
      },
      [](pthread_t thread) { ::pthread_kill(thread, SIGUSR1); });
});

const Registered kWait("in_sigwaitinfo", [](Stage& stage) {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGUSR2);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  wait_in(
      stage,
      [set] {
        siginfo_t info{};
        const int result = ::sigwaitinfo(&set, &info);
        return unless(result == SIGUSR2 && info.si_pid == ::getpid(), "sigwaitinfo");
      },
      [](pthread_t) { ::kill(::getpid(), SIGUSR2); });
});

const Registered kRead("in_read", [](Stage& stage) {
  std::array<int, 2> ends{};
  must(::pipe(ends.data()), "pipe");
  wait_in(
      stage,
      [ends] {
        char letter = 0;
        return unless(::read(ends[0], &letter, 1) == 1 && letter == 'r', "read");
      },
      [ends](pthread_t) { must(::write(ends[1], "r", 1), "write"); });
});

sem_t semaphore;
const Registered kSemaphore("in_sem_wait", [](Stage& stage) {
  must(::sem_init(&semaphore, 0, 0), "sem_init");
  wait_in(
      stage, [] { return unless(::sem_wait(&semaphore) == 0, "sem_wait"); },
      [](pthread_t) { ::sem_post(&semaphore); });
});

const Registered kPause("in_pause", [](Stage& stage) {
  struct sigaction action {};
  action.sa_handler = handle_it;
  ::sigaction(SIGUSR1, &action, nullptr);
  wait_in(
      stage, [] { return unless(::pause() == -1 && errno == EINTR && handled == 1, "pause"); },
      [](pthread_t thread) { ::pthread_kill(thread, SIGUSR1); });
});

}  // namespace
}  // namespace subject
