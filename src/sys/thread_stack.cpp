#include "sys/thread_stack.hpp"

#include <pthread.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include <pagetrap/core/units.hpp>

#include "sys/signal_safe_calls.hpp"

#if defined(__clang__) && __clang_major__ >= 20
#pragma clang diagnostic ignored "-Wfunction-effects"
#endif

namespace pagetrap::sys {

int find_thread_stack(ThreadStack& found) noexcept {
  pthread_attr_t attributes;
  if (const int error = ::pthread_getattr_np(::pthread_self(), &attributes)) return error;
  void* low = nullptr;
  std::size_t size = 0;
  std::size_t guard = 0;
  int error = ::pthread_attr_getstack(&attributes, &low, &size);
  if (error == 0) error = ::pthread_attr_getguardsize(&attributes, &guard);
  ::pthread_attr_destroy(&attributes);
  if (error != 0) return error;
  found.low = static_cast<std::byte*>(low);
  found.high = found.low + size;
  found.of_first_thread = thread_id() == process_id();
  found.guard_bytes = found.of_first_thread ? 0 : guard;
  return 0;
}

// SOURCE  fs/exec.c: the program's file name is the last thing on the first stack, before one word
// of zeroes; acct_stack_growth() in mm/mmap.c: the limit counts from the stack's end.
ThreadStack first_thread_stack() noexcept PAGETRAP_SIGNAL_SAFE {
  const ErrnoSaver errno_saver;
  const auto* const file = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));
  if (file == nullptr) return {};
  const auto end =
      reinterpret_cast<std::uintptr_t>(file) + std::strlen(file) + 1 + sizeof(std::uintptr_t);
  const std::uintptr_t high = (end + page_size() - 1) & ~(page_size() - 1);
  rlimit limit{};
  constexpr std::uintptr_t kWithoutLimit = std::uintptr_t{64} << 20;
  std::uintptr_t most = kWithoutLimit;
  if (::syscall(SYS_prlimit64, 0, RLIMIT_STACK, nullptr, &limit) == 0 &&
      limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < high)
    most = limit.rlim_cur & ~(page_size() - 1);
  ThreadStack found;
  found.high = reinterpret_cast<std::byte*>(high);
  found.low = found.high - most;
  found.of_first_thread = true;
  return found;
}

}  // namespace pagetrap::sys
