#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <map>

#include "stage.hpp"

namespace subject {
namespace {

int make_epoll() { return static_cast<int>(must(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")); }
int make_event(unsigned count) {
  return static_cast<int>(must(::eventfd(count, EFD_NONBLOCK), "eventfd"));
}
void watch(int epoll, int descriptor, std::uint32_t events, std::uint64_t data) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  must(::epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event), "epoll_ctl");
}

// By data: what is ready.
std::map<std::uint64_t, std::uint32_t> ready(int epoll, int milliseconds = 0) {
  std::array<epoll_event, 32> events{};
  const int count = ::epoll_wait(epoll, events.data(), events.size(), milliseconds);
  std::map<std::uint64_t, std::uint32_t> found;
  for (int i = 0; i < count; ++i)
    found[events[static_cast<std::size_t>(i)].data.u64] =
        events[static_cast<std::size_t>(i)].events;
  return found;
}
using Ready = std::map<std::uint64_t, std::uint32_t>;

const Registered kEpolls("epolls", [](Stage& stage) {
  const int epoll = make_epoll();
  const int event = make_event(1);
  watch(epoll, event, EPOLLIN, 0xfedcba9876543210);
  const int quiet = make_event(0);
  watch(epoll, quiet, EPOLLIN, 2);
  std::array<int, 2> pipe{};
  must(::pipe(pipe.data()), "pipe");
  watch(epoll, pipe[0], EPOLLIN, 3);
  watch(epoll, pipe[1], EPOLLOUT, 4);
  const int timer =
      static_cast<int>(must(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), "timerfd"));
  const itimerspec soon{{0, 0}, {0, 1}};
  must(::timerfd_settime(timer, 0, &soon, nullptr), "timerfd_settime");
  watch(epoll, timer, EPOLLIN, 5);
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGUSR1);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  const int signals = static_cast<int>(must(::signalfd(-1, &set, SFD_NONBLOCK), "signalfd"));
  watch(epoll, signals, EPOLLIN, 6);
  ::raise(SIGUSR1);
  const int copy = static_cast<int>(must(::dup(epoll), "dup"));
  stage.wait_for_go();
  const Ready expected{{0xfedcba9876543210, EPOLLIN}, {4, EPOLLOUT}, {5, EPOLLIN}, {6, EPOLLIN}};
  stage.expect(ready(epoll) == expected, "what is ready, with its data");
  stage.expect(ready(copy) == expected, "through a copy");
  must(::write(pipe[1], "x", 1), "write");
  stage.expect(ready(epoll).contains(3), "a pipe becomes ready");
  stage.expect(::epoll_ctl(epoll, EPOLL_CTL_DEL, quiet, nullptr) == 0, "what it watches");
  stage.expect(::epoll_ctl(epoll, EPOLL_CTL_DEL, quiet, nullptr) == -1 && errno == ENOENT, "once");
});

const Registered kNested("nested_epolls", [](Stage& stage) {
  const int outer = make_epoll();  // a smaller number than what it watches
  const int inner = make_epoll();
  const int deepest = make_epoll();
  const int event = make_event(0);
  watch(outer, inner, EPOLLIN, 1);
  watch(inner, deepest, EPOLLIN, 2);
  watch(deepest, event, EPOLLIN, 3);
  stage.wait_for_go();
  stage.expect(ready(outer).empty(), "nothing is ready");
  const std::uint64_t one = 1;
  must(::write(event, &one, sizeof one), "write");
  stage.expect(ready(outer) == Ready{{1, EPOLLIN}}, "the outer one");
  stage.expect(ready(inner) == Ready{{2, EPOLLIN}}, "the inner one");
  stage.expect(ready(deepest) == Ready{{3, EPOLLIN}}, "the deepest one");
});

const Registered kEdges("edges", [](Stage& stage) {
  const int epoll = make_epoll();
  const int edge = make_event(0);
  watch(epoll, edge, EPOLLIN | EPOLLET, 1);
  const int once = make_event(0);
  watch(epoll, once, EPOLLIN | EPOLLONESHOT, 2);
  const int used = make_event(1);  // has been reported, and is off
  watch(epoll, used, EPOLLIN | EPOLLONESHOT, 3);
  stage.expect(ready(epoll) == Ready{{3, EPOLLIN}}, "before the cut");
  stage.wait_for_go();
  stage.expect(ready(epoll).empty(), "nothing is new");
  const std::uint64_t one = 1;
  must(::write(edge, &one, sizeof one), "write");
  stage.expect(ready(epoll) == Ready{{1, EPOLLIN}}, "an edge");
  stage.expect(ready(epoll).empty(), "an edge is reported once");
  must(::write(once, &one, sizeof one), "write");
  stage.expect(ready(epoll) == Ready{{2, EPOLLIN}}, "a one-shot");
  stage.expect(ready(epoll).empty(), "a one-shot is reported once");
  epoll_event again{};
  again.events = EPOLLIN;
  again.data.u64 = 4;
  stage.expect(::epoll_ctl(epoll, EPOLL_CTL_MOD, used, &again) == 0, "a used one-shot is there");
  stage.expect(ready(epoll) == Ready{{4, EPOLLIN}}, "a used one-shot, armed again");
});

}  // namespace
}  // namespace subject
