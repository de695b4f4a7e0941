#include <errno.h>
#include <immintrin.h>
#include <linux/rseq.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <thread>

#include "stage.hpp"

namespace subject {
namespace {

thread_local int local = 0;
thread_local std::string* local_string = nullptr;

// Threads that wait for a condition, each with something of its own.
void wait_in_threads(Stage& stage, int number) {
  std::mutex lock;
  std::condition_variable go;
  bool over = false;
  std::atomic<int> standing{0};
  std::vector<std::thread> threads;
  std::vector<int> results(static_cast<std::size_t>(number));
  std::vector<pid_t> ids(results.size());
  for (std::size_t i = 0; i < results.size(); ++i)
    threads.emplace_back([&, i] {
      local = static_cast<int>(i) + 1;
      std::string words(1000, static_cast<char>('a' + i % 26));
      local_string = &words;
      ids[i] = ::gettid();
      errno = 1000 + static_cast<int>(i);
      std::unique_lock guard(lock);
      ++standing;
      const int saved = errno;
      while (!over) go.wait(guard);
      const bool same = ids[i] == ::gettid() && saved == 1000 + static_cast<int>(i) &&
                        local_string->back() == static_cast<char>('a' + i % 26);
      results[i] = same ? local : -1;
    });
  while (standing != number) sleep_ms(1);
  local = 4711;
  const pid_t process = ::getpid();
  stage.wait_for_go();
  {
    const std::lock_guard guard(lock);
    over = true;
  }
  go.notify_all();
  for (std::thread& each : threads) each.join();
  for (int i = 0; i < number; ++i)
    stage.expect(results[static_cast<std::size_t>(i)] == i + 1, "thread " + std::to_string(i));
  stage.expect(local == 4711, "this one's");
  stage.expect(process == ::getpid() && process == ::gettid(), "the process id");
  std::atomic<int> fresh{0};
  std::vector<std::thread> more;
  for (int i = 0; i < 8; ++i) more.emplace_back([&] { fresh += local == 0 ? 1 : 0; });
  for (std::thread& each : more) each.join();
  stage.expect(fresh == 8, "new threads");
}

const Registered kOne("one_thread", [](Stage& stage) { wait_in_threads(stage, 0); });
const Registered kTwo("two_threads", [](Stage& stage) { wait_in_threads(stage, 1); });
const Registered kMany("many_threads", [](Stage& stage) { wait_in_threads(stage, 63); });

const Registered kProperties("thread_properties", [](Stage& stage) {
  std::atomic<bool> over{false};
  std::atomic<bool> ready{false};
  std::string name;
  cpu_set_t processors{};
  int nice = 0;
  int policy = -1;
  int idle = -1;
  std::thread thread([&] {
    ::pthread_setname_np(::pthread_self(), "the worker");
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    ::sched_setaffinity(0, sizeof one, &one);
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), 7);
    const sched_param none{};
    ::sched_setscheduler(0, SCHED_BATCH, &none);
    ready = true;
    while (!over) sleep_ms(1);
    std::array<char, 16> text{};
    ::pthread_getname_np(::pthread_self(), text.data(), text.size());
    name = text.data();
    ::sched_getaffinity(0, sizeof processors, &processors);
    nice = ::getpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()));
    policy = ::sched_getscheduler(0);
  });
  std::thread lazy([&] {
    const sched_param none{};
    ::sched_setscheduler(0, SCHED_IDLE, &none);
    while (!over) sleep_ms(1);
    idle = ::sched_getscheduler(0);
  });
  while (!ready) sleep_ms(1);
  stage.wait_for_go();
  over = true;
  thread.join();
  lazy.join();
  stage.expect(name == "the worker", "its name");
  stage.expect(CPU_COUNT(&processors) == 1 && CPU_ISSET(0, &processors), "its processors");
  stage.expect(nice == 7, "its nice");
  stage.expect(policy == SCHED_BATCH, "its policy");
  stage.expect(idle == SCHED_IDLE, "another one's policy");
});

const Registered kRobust("robust_mutex", [](Stage& stage) {
  pthread_mutexattr_t attributes;
  ::pthread_mutexattr_init(&attributes);
  ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_t mutex;
  ::pthread_mutex_init(&mutex, &attributes);
  std::atomic<bool> over{false};
  std::atomic<bool> held{false};
  std::thread owner([&] {
    ::pthread_mutex_lock(&mutex);
    held = true;
    while (!over) sleep_ms(1);
    // Ends without letting it go.
  });
  while (!held) sleep_ms(1);
  stage.wait_for_go();
  stage.expect(::pthread_mutex_trylock(&mutex) == EBUSY, "it is held");
  over = true;
  stage.expect(::pthread_mutex_lock(&mutex) == EOWNERDEAD,
               "the kernel finds it at the owner's end");
  ::pthread_mutex_consistent(&mutex);
  ::pthread_mutex_unlock(&mutex);
  owner.join();
});

const Registered kCancel("cancellation", [](Stage& stage) {
  std::atomic<int> cleaned{0};
  pthread_t thread{};
  ::pthread_create(
      &thread, nullptr,
      [](void* counter) -> void* {
        pthread_cleanup_push([](void* at) { ++*static_cast<std::atomic<int>*>(at); }, counter);
        for (;;) ::pause();
        pthread_cleanup_pop(0);
        return nullptr;
      },
      &cleaned);
  stage.wait_for_go();
  ::pthread_cancel(thread);
  void* result = nullptr;
  ::pthread_join(thread, &result);
  stage.expect(result == PTHREAD_CANCELED && cleaned == 1, "a thread is cancelled");
});

// Spins with known registers until told, without any call.
__attribute__((target("avx"), noinline)) bool keep_avx(const std::atomic<bool>& over,
                                                       std::uint64_t seed) {
  alignas(32) std::array<std::uint64_t, 64> in{};
  alignas(32) std::array<std::uint64_t, 64> out{};
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = seed * (i + 1);
  asm volatile(
      "vmovdqa 0(%0), %%ymm0\n\tvmovdqa 32(%0), %%ymm1\n\tvmovdqa 64(%0), %%ymm2\n\t"
      "vmovdqa 96(%0), %%ymm3\n\tvmovdqa 128(%0), %%ymm4\n\tvmovdqa 160(%0), %%ymm5\n\t"
      "vmovdqa 192(%0), %%ymm6\n\tvmovdqa 224(%0), %%ymm7\n\tvmovdqa 256(%0), %%ymm8\n\t"
      "vmovdqa 288(%0), %%ymm9\n\tvmovdqa 320(%0), %%ymm10\n\tvmovdqa 352(%0), %%ymm11\n\t"
      "vmovdqa 384(%0), %%ymm12\n\tvmovdqa 416(%0), %%ymm13\n\tvmovdqa 448(%0), %%ymm14\n\t"
      "vmovdqa 480(%0), %%ymm15\n\t"
      "1: pause\n\tcmpb $0, (%2)\n\tje 1b\n\t"
      "vmovdqa %%ymm0, 0(%1)\n\tvmovdqa %%ymm1, 32(%1)\n\tvmovdqa %%ymm2, 64(%1)\n\t"
      "vmovdqa %%ymm3, 96(%1)\n\tvmovdqa %%ymm4, 128(%1)\n\tvmovdqa %%ymm5, 160(%1)\n\t"
      "vmovdqa %%ymm6, 192(%1)\n\tvmovdqa %%ymm7, 224(%1)\n\tvmovdqa %%ymm8, 256(%1)\n\t"
      "vmovdqa %%ymm9, 288(%1)\n\tvmovdqa %%ymm10, 320(%1)\n\tvmovdqa %%ymm11, 352(%1)\n\t"
      "vmovdqa %%ymm12, 384(%1)\n\tvmovdqa %%ymm13, 416(%1)\n\tvmovdqa %%ymm14, 448(%1)\n\t"
      "vmovdqa %%ymm15, 480(%1)\n\t"
      :
      : "r"(in.data()), "r"(out.data()), "r"(&over)
      : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
        "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  return in == out;
}

const Registered kRegisters("registers", [](Stage& stage) {
  if (__builtin_cpu_supports("avx") == 0) stage.skip("no AVX");
  std::atomic<bool> over{false};
  std::array<bool, 2> same{};
  std::array<unsigned, 2> control{};
  std::array<unsigned short, 2> old_control{};
  std::array<long double, 2> result{};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 2; ++i)
    threads.emplace_back([&, i] {
      // Rounding of its own, in both units.
      _mm_setcsr(_mm_getcsr() | 0x6000U);
      const unsigned short x87 = i == 0 ? 0x0f7f : 0x077f;
      asm volatile("fldcw %0" : : "m"(x87));
      long double kept = 0;
      asm volatile("fldpi" : "=t"(kept));
      same[i] = keep_avx(over, 0x9e3779b97f4a7c15 * (i + 1));
      control[i] = _mm_getcsr() & 0x6000U;
      asm volatile("fnstcw %0" : "=m"(old_control[i]));
      result[i] = kept;
    });
  sleep_ms(20);
  stage.wait_for_go();
  over = true;
  for (std::thread& each : threads) each.join();
  for (std::size_t i = 0; i < 2; ++i) {
    stage.expect(same[i], "sixteen registers of 256 bits");
    stage.expect(control[i] == 0x6000, "MXCSR");
    stage.expect(old_control[i] == (i == 0 ? 0x0f7f : 0x077f), "the x87 control word");
    stage.expect(result[i] > 3.14159L && result[i] < 3.1416L, "an x87 register");
  }
});

rseq* own_rseq() {
  return reinterpret_cast<rseq*>(static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset);
}

const Registered kSequences("restartable_sequences", [](Stage& stage) {
  if (__rseq_size == 0) stage.skip("no restartable sequences");
  std::atomic<bool> over{false};
  bool other = false;
  const auto check = [] {
    const int now = ::sched_getcpu();
    return now >= 0 && own_rseq()->cpu_id < 4096 && own_rseq()->cpu_id_start < 4096;
  };
  std::thread thread([&] {
    while (!over) sleep_ms(1);
    other = check();
  });
  stage.wait_for_go();
  over = true;
  thread.join();
  stage.expect(check() && other, "the kernel tells the processor");
  // It is registered: the kernel refuses to register another.
  alignas(32) static std::array<char, 64> area{};
  stage.expect(::syscall(SYS_rseq, area.data(), 32, 0, RSEQ_SIG) == -1 && errno == EINVAL,
               "it is registered");
});

// Spins in a restartable sequence, out of which only the kernel gets it.
__attribute__((noinline)) bool spin_in_sequence(std::atomic<int>& inside) {
  struct alignas(32) Section {
    std::uint32_t version = 0;
    std::uint32_t flags = 0;
    std::uint64_t start = 0;
    std::uint64_t length = 0;
    std::uint64_t abort = 0;
  };
  static Section section;
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint64_t abort = 0;
  asm volatile("lea 2f(%%rip), %0\n\tlea 3f(%%rip), %1\n\tlea 4f(%%rip), %2\n\t"
               : "=r"(start), "=r"(end), "=r"(abort));
  section.start = start;
  section.length = end - start;
  section.abort = abort;
  bool aborted = false;
  int turns = 0;
  asm volatile(
      "movq %[section], %[place]\n\t"
      "2:\n\t"
      "movl $1, %[inside]\n\t"
      "5: pause\n\tjmp 5b\n\t"
      "3:\n\t"
      "jmp 6f\n\t"
      ".long 0x53053053\n\t"
      "4:\n\t"
      "movb $1, %[aborted]\n\t"
      "6:\n\t"
      : [aborted] "+m"(aborted), [inside] "+m"(inside), [place] "=m"(own_rseq()->rseq_cs),
        "+r"(turns)
      : [section] "r"(&section)
      : "memory", "cc");
  return aborted;
}

const Registered kSection("critical_section", [](Stage& stage) {
  if (__rseq_size == 0) stage.skip("no restartable sequences");
  // Whatever takes the processor from it ends the sequence, and it begins the next: a stop in the
  // middle of one must end it too, in this process as in the restarted one.
  std::atomic<int> inside{0};
  std::atomic<bool> over{false};
  std::atomic<int> ended{0};
  std::thread thread([&] {
    while (!over) {
      if (spin_in_sequence(inside)) ++ended;
    }
  });
  while (inside == 0) sleep_ms(1);
  stage.wait_for_go();
  over = true;
  // Moves the thread, if nothing else has by now.
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int i = 0; i < 1000 && ended == 0; ++i) sleep_ms(1);
  for (std::size_t i = 0; i < 2; ++i) {
    CPU_ZERO(&one);
    CPU_SET(i, &one);
    ::pthread_setaffinity_np(thread.native_handle(), sizeof one, &one);
  }
  thread.join();
  stage.expect(ended > 0, "a sequence that was stopped in is begun again");
});

const Registered kFirst("first_thread_ended", [](Stage& stage) {
  // Goes on without its first thread: the checks are made in another one.
  // What is on the first thread's stack goes with it.
  std::thread([own = new Stage(stage)] {
    Stage& alone = *own;
    const std::string task = "/proc/self/task/" + std::to_string(::getpid()) + "/stat";
    while (contents_of(task).find(") Z ") == std::string::npos) sleep_ms(1);
    alone.say("ready");
    alone.wait_for_go();
    ::_exit(alone.verdict());
  }).detach();
  ::pthread_exit(nullptr);
});

}  // namespace
}  // namespace subject
