#include "scenarios.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

char* make(std::size_t size) {
  auto* const block = static_cast<char*>(std::malloc(size));
  std::memset(block, 'a', size);
  return block;
}
void drop(void* block) { std::free(block); }

namespace {

[[gnu::noinline]] char look(const char* at) { return *static_cast<const volatile char*>(at); }
[[gnu::noinline]] void change(char* at) { *static_cast<volatile char*>(at) = 'x'; }
[[gnu::noinline]] void copy(void* to, const void* from, std::size_t size) {
  std::memcpy(to, from, size);
}

void others(int how_many) {
  for (int i = 0; i < how_many; ++i) drop(make(21));
}

// --- after free ----------------------------------------------------------------------------------

template <int Later, bool Write>
void after_free(bool good) {
  char* const block = make(21);
  if (!good) drop(block);
  others(Later);
  Write ? change(block + 5) : static_cast<void>(look(block + 5));
  if (good) drop(block);
}

void many_reads_after_free(bool good) {
  for (int i = 0; i < 20'000; ++i) {
    char* const block = make(21);
    if (!good) drop(block);
    static_cast<void>(look(block + 5));
    if (good) drop(block);
  }
}

// As daemons do when they start.
void after_closing_all(bool good) {
  for (int file = 3; file < 2000; ++file) close(file);
  closefrom(3);
  for (int file = 3; file < 2000; ++file)
    if (dup2(1, file) == file) close(file);
  others(2000);
  after_free<1, false>(good);
}

void after_realloc(bool good) {
  char* const block = make(21);
  auto* const moved = static_cast<char*>(std::realloc(block, 4000));
  static_cast<void>(look((good ? moved : block) + 3));
  drop(moved);
}

void after_free_large(bool good) {
  char* const block = make(3'000'000);
  if (!good) drop(block);
  static_cast<void>(look(block + 1'234'567));
  if (good) drop(block);
}

void after_free_in_thread(bool good) {
  char* const block = make(21);
  pthread_t thread;
  pthread_create(
      &thread, nullptr,
      [](void* shared) -> void* {
        drop(shared);
        return nullptr;
      },
      good ? make(8) : block);
  pthread_join(thread, nullptr);
  static_cast<void>(look(block + 5));
  if (good) drop(block);
}

void after_fork_in_child(bool good) {
  char* const block = make(21);
  const pid_t child = fork();
  if (child == 0) {
    others(100);
    drop(make(5000));
    if (!good) drop(block);
    change(block + 5);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (block[5] != 'a') std::abort();  // the heap is not shared
  drop(block);
  if (status != 0) _exit(WEXITSTATUS(status));
}

void after_fork_in_parent(bool good) {
  char* const block = make(21);
  const pid_t child = fork();
  if (child == 0) {
    others(1000);
    _exit(block[5] == 'a' ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  others(1000);
  if (!good) drop(block);
  static_cast<void>(look(block + 5));
  if (good) drop(block);
}

// --- free ----------------------------------------------------------------------------------------

// Streams of the C library, idle while ten thousand blocks come, and used by a child at once: its
// fork() goes through all of them before any handler of ours runs there. And by a timer's signals,
// in the middle of whatever the guard does.
void idle_streams(bool /*good*/) {
  static char* volatile watched = make(50);
  static std::atomic<int> ticks{0};
  struct sigaction action {};
  action.sa_handler = [](int) {
    if (watched[49] != 'a') std::abort();
    ticks += 1;
  };
  sigaction(SIGALRM, &action, nullptr);
  const itimerval often{{0, 10'000}, {0, 10'000}};  // fork() begins again after a signal
  setitimer(ITIMER_REAL, &often, nullptr);
  std::array<FILE*, 20> files{};
  for (FILE*& file : files) {
    file = std::tmpfile();
    if (file == nullptr) std::abort();
    std::fputs("parent ", file);
  }
  static std::array<char*, 10'000> blocks{};
  for (char*& block : blocks) block = make(40);
  for (int turn = 0; turn < 5; ++turn) {
    const pid_t child = fork();
    if (child == 0) {
      for (FILE* const file : files)
        if (std::fputs("child", file) < 0 || std::fflush(file) != 0) _exit(1);
      for (const char* const block : blocks)
        if (look(block + 39) != 'a') _exit(2);
      _exit(0);
    }
    int status = -1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (status != 0) std::abort();
  }
  for (const char* const block : blocks)
    if (look(block + 39) != 'a') std::abort();
  if (ticks.load() == 0) std::abort();
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  for (char* const block : blocks) drop(block);
}

void double_free(bool good) {
  char* const block = make(21);
  drop(block);
  others(10);
  if (!good) drop(block);
}
void interior_free(bool good) {
  char* const block = make(64);
  drop(good ? block : block + 16);
}
void stack_free(bool good) {
  std::array<char, 64> local{};
  drop(good ? make(3) : local.data() + 16);
}
void global_free(bool good) {
  static std::array<char, 64> global{};
  drop(good ? make(3) : global.data() + 16);
}
void realloc_of_freed(bool good) {
  char* const block = make(21);
  if (!good) drop(block);
  drop(std::realloc(block, 50));
}
[[gnu::noinline]] int* some() { return new int[4]; }
void free_of_new(bool good) {
  int* const block = some();
  good ? delete[] block : drop(block);
}
[[gnu::noinline]] void delete_one(int* block) { delete block; }
void delete_of_new_array(bool good) {
  int* const block = some();
  good ? delete[] block : delete_one(block);
}
void wrong_sized_delete(bool good) {
  void* const block = ::operator new(24);
  ::operator delete (block, std::size_t{good ? 24U : 32U});
}

// --- through the C library -----------------------------------------------------------------------

void memcpy_over(bool good) {
  char* const from = make(100);
  char* const to = make(40);
  copy(to, from, good ? 40 : 100);
  drop(to);
  drop(from);
}
void strcpy_over(bool good) {
  char* const to = make(16);
  std::strcpy(to, good ? "fifteen letters" : "too many letters for it");
  drop(to);
}
void strlen_over(bool good) {
  char* const text = make(32);
  if (good) text[31] = '\0';
  if (std::strlen(text) == 1) std::abort();
  drop(text);
}
void qsort_over(bool good) {
  auto* const numbers = reinterpret_cast<int*>(make(40));
  std::qsort(numbers, good ? 10 : 20, sizeof(int), [](const void* a, const void* b) {
    return *static_cast<const int*>(a) - *static_cast<const int*>(b);
  });
  drop(numbers);
}

void atomic_member(bool) {
  struct Shared {
    long count;
    int other;
  };
  auto* const shared = static_cast<Shared*>(std::malloc(sizeof(Shared)));
  shared->count = 0;
  for (int i = 0; i < 1000; ++i) __atomic_fetch_add(&shared->count, 1, __ATOMIC_SEQ_CST);
  if (shared->count != 1000) std::abort();
  drop(shared);
}

Scenarios scenarios() {
  return {
      {"read_after_free_0", after_free<0, false>},
      {"write_after_free_0", after_free<0, true>},
      {"read_after_free_1", after_free<1, false>},
      {"write_after_free_1", after_free<1, true>},
      {"read_after_free_1000", after_free<1000, false>},
      {"write_after_free_1000", after_free<1000, true>},
      {"read_after_free_1000000", after_free<1'000'000, false>},
      {"many_reads_after_free", many_reads_after_free},
      {"after_closing_all", after_closing_all},
      {"after_realloc", after_realloc},
      {"after_free_large", after_free_large},
      {"after_free_in_thread", after_free_in_thread},
      {"after_fork_in_child", after_fork_in_child},
      {"after_fork_in_parent", after_fork_in_parent},
      {"double_free", double_free},
      {"interior_free", interior_free},
      {"stack_free", stack_free},
      {"global_free", global_free},
      {"realloc_of_freed", realloc_of_freed},
      {"free_of_new", free_of_new},
      {"delete_of_new_array", delete_of_new_array},
      {"wrong_sized_delete", wrong_sized_delete},
      {"memcpy_over", memcpy_over},
      {"strcpy_over", strcpy_over},
      {"strlen_over", strlen_over},
      {"qsort_over", qsort_over},
      {"atomic_member", atomic_member},
      {"idle_streams", idle_streams},
  };
}

}  // namespace

int run_scenario(const std::string& name, bool good) {
  auto all = scenarios();
  all.merge(kernel_scenarios());
  const auto found = all.find(name);
  if (found == all.end()) return 2;
  found->second(good);
  std::puts("came to its end");
  return 0;
}
