// Threads that use up their stacks, and threads that do what threads do, for the tests to run under
// guards. Links nothing of ours.
//
//   guard_threads NAME    a function of this file
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <threads.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "guard/stacks/endless.hpp"

using namespace pagetrap;

namespace {

void check(bool holds, const char* what) {
  if (holds) return;
  std::printf("not so: %s\n", what);
  std::fflush(stdout);
  _exit(1);
}

using Routine = void* (*)(void*);

pthread_t start(Routine routine, void* argument = nullptr, pthread_attr_t* attributes = nullptr) {
  pthread_t thread{};
  check(pthread_create(&thread, attributes, routine, argument) == 0, "a thread starts");
  return thread;
}
void run(Routine routine, void* argument = nullptr, pthread_attr_t* attributes = nullptr) {
  check(pthread_join(start(routine, argument, attributes), nullptr) == 0, "a thread is joined");
}

void* overflows(void*) {
  pthread_setname_np(pthread_self(), "deep-worker");
  first_of_three(0);
  return nullptr;
}

void install_small_stack(bool with_guard) {
  constexpr std::size_t kSize = 8192;  // SIGSTKSZ
  void* const memory =
      mmap(nullptr, 4096 + kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (with_guard) mprotect(memory, 4096, PROT_NONE);
  stack_t stack{};
  stack.ss_sp = static_cast<char*>(memory) + 4096;
  stack.ss_size = kSize;
  check(sigaltstack(&stack, nullptr) == 0, "sigaltstack");
}

// --- overflow ------------------------------------------------------------------------------------

void in_first_thread() { overflows(nullptr); }
void in_pthread() { run(overflows); }
void in_c11_thread() {
  thrd_t thread{};
  check(thrd_create(
            &thread, [](void*) -> int { return overflows(nullptr) == nullptr; }, nullptr) ==
            thrd_success,
        "thrd_create");
  thrd_join(thread, nullptr);
}
void in_detached_thread() {
  pthread_detach(start(overflows));
  for (;;) pause();
}
void in_small_stack() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 * 1024);
  run(overflows, nullptr, &attributes);
}
void in_own_stack() {
  constexpr std::size_t kSize = 256 * 1024;
  auto* const memory = static_cast<char*>(
      mmap(nullptr, kSize + 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  mprotect(memory + 65536, kSize, PROT_READ | PROT_WRITE);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, memory + 65536, kSize);
  run(overflows, nullptr, &attributes);
}
void in_large_frames() {
  run([](void*) -> void* {
    pthread_setname_np(pthread_self(), "deep-worker");
    with_frames_of_100_kilobytes(0);
    return nullptr;
  });
}
void on_small_signal_stack() {
  run([](void*) -> void* {
    install_small_stack(true);
    return overflows(nullptr);
  });
}
void after_own_signal_stack() {
  run([](void*) -> void* {
    install_small_stack(true);
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    check(sigaltstack(&none, nullptr) == 0, "sigaltstack");
    return overflows(nullptr);
  });
}
void in_last_destructor() {
  static pthread_key_t key;
  static std::atomic<int> rounds{0};
  pthread_key_create(&key, [](void* value) {
    if (++rounds == PTHREAD_DESTRUCTOR_ITERATIONS - 1) overflows(nullptr);
    pthread_setspecific(key, value);
  });
  run([](void*) -> void* {
    pthread_setspecific(key, &key);
    return nullptr;
  });
}
void after_many_threads() {
  for (int i = 0; i < 500; ++i) run([](void* nothing) { return nothing; });
  run(overflows);
}
void in_forked_child() {
  run([](void*) -> void* {
    pthread_setname_np(pthread_self(), "deep-worker");
    const pid_t child = fork();
    if (child == 0) first_of_three(0);
    int status = 0;
    waitpid(child, &status, 0);
    _exit(WEXITSTATUS(status));
  });
}

// --- goes on -------------------------------------------------------------------------------------

sigjmp_buf before;
std::atomic<int> recovered{0};

void recover(int) {
  recovered += 1;
  siglongjmp(before, 1);
}

// As interpreters do: their handler on their stack, and on with the next statement.
void recovering() {
  install_small_stack(false);
  struct sigaction action {};
  action.sa_handler = recover;
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
  for (int i = 0; i < 3; ++i)
    if (sigsetjmp(before, 1) == 0) calls_itself(0);
  std::printf("recovered %d times\n", recovered.load());
}

void signal_stacks() {
  const auto look = [](void*) -> void* {
    stack_t found{};
    check(sigaltstack(nullptr, &found) == 0, "sigaltstack");
    check(found.ss_flags == SS_DISABLE, "there is none at first");
    static char memory[65536];
    stack_t own{};
    own.ss_sp = memory;
    own.ss_size = sizeof memory;
    check(sigaltstack(&own, &found) == 0 && found.ss_flags == SS_DISABLE, "nor when one is set");
    check(sigaltstack(nullptr, &found) == 0 && found.ss_sp == memory, "then it is that");
    struct sigaction action {};
    action.sa_flags = SA_ONSTACK;
    action.sa_handler = [](int) {
      char here = 0;
      check(&here >= memory && &here < memory + sizeof memory, "handlers run there");
    };
    sigaction(SIGUSR1, &action, nullptr);
    raise(SIGUSR1);
    own.ss_flags = SS_DISABLE;
    check(sigaltstack(&own, &found) == 0 && found.ss_sp == memory, "it is taken away");
    check(sigaltstack(nullptr, &found) == 0 && found.ss_flags == SS_DISABLE, "and gone");
    own.ss_flags = 0;
    own.ss_size = 1;
    check(sigaltstack(&own, nullptr) == -1, "one that is too small is refused");
    return nullptr;
  };
  look(nullptr);
  run(look);
  std::puts("as without");
}

void stacks_are_as_long_as_asked_for() {
  for (const std::size_t size : {std::size_t{65536}, std::size_t{1} << 20, std::size_t{8} << 20}) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, size);
    run(
        [](void* asked) -> void* {
          pthread_attr_t mine;
          pthread_getattr_np(pthread_self(), &mine);
          void* low = nullptr;
          std::size_t length = 0;
          pthread_attr_getstack(&mine, &low, &length);
          pthread_attr_destroy(&mine);
          std::printf("%zu of %zu\n", length, *static_cast<std::size_t*>(asked));
          return nullptr;
        },
        const_cast<std::size_t*>(&size), &attributes);
  }
}

struct Loud {
  const char* word = nullptr;
  ~Loud() {
    if (word != nullptr) std::puts(word);
  }
};
thread_local Loud thread_object;

void ends_of_threads() {
  static pthread_key_t key;
  pthread_key_create(&key, [](void* word) { std::puts(static_cast<const char*>(word)); });
  const auto leave = [](void* how) -> void* {
    const Loud local{"a local object's destructor"};
    thread_object.word = "a thread's object's destructor";
    pthread_setspecific(key, "a key's destructor");
    pthread_cleanup_push([](void*) { std::puts("a cleanup"); }, nullptr);
    if (how != nullptr) pthread_exit(how);
    for (;;) pause();
    pthread_cleanup_pop(0);
    return nullptr;
  };
  void* result = nullptr;
  pthread_join(start(leave, &result), &result);
  std::printf("exit: %d\n", result == &result);
  const pthread_t cancelled = start(leave);
  usleep(20'000);
  pthread_cancel(cancelled);
  pthread_join(cancelled, &result);
  std::printf("cancelled: %d\n", result == PTHREAD_CANCELED);
}

std::size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) ++count;
  return count;
}

void many_short_threads() {
  static std::atomic<int> ran{0};
  const auto work = [](void*) -> void* {
    ran += 1;
    return nullptr;
  };
  for (int i = 0; i < 100; ++i) run(work);
  const std::size_t first = mappings();
  for (int i = 0; i < 10'000; ++i) run(work);
  check(mappings() < first + 50, "they leave nothing");
  std::vector<pthread_t> together;
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 200; ++i) together.push_back(start(work));
    for (const pthread_t thread : together) pthread_join(thread, nullptr);
    together.clear();
  }
  for (int i = 0; i < 1000; ++i) {
    const int count = ran;
    pthread_detach(start(work));
    while (ran == count) sched_yield();
  }
  std::printf("%d threads ran\n", ran.load());
}

const std::map<std::string, void (*)()>& places() {
  static const std::map<std::string, void (*)()> all{
      {"in_first_thread", in_first_thread},
      {"in_pthread", in_pthread},
      {"in_c11_thread", in_c11_thread},
      {"in_detached_thread", in_detached_thread},
      {"in_small_stack", in_small_stack},
      {"in_own_stack", in_own_stack},
      {"in_large_frames", in_large_frames},
      {"on_small_signal_stack", on_small_signal_stack},
      {"after_own_signal_stack", after_own_signal_stack},
      {"in_last_destructor", in_last_destructor},
      {"after_many_threads", after_many_threads},
      {"in_forked_child", in_forked_child},
      {"recovering", recovering},
      {"signal_stacks", signal_stacks},
      {"stacks_are_as_long_as_asked_for", stacks_are_as_long_as_asked_for},
      {"ends_of_threads", ends_of_threads},
      {"many_short_threads", many_short_threads},
  };
  return all;
}

}  // namespace

int main(int count, char** words) {
  const auto found = count == 2 ? places().find(words[1]) : places().end();
  if (found == places().end()) return 2;
  found->second();
  return 0;
}
