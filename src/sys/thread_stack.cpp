#include "sys/thread_stack.hpp"

#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/raw_syscall.hpp"
#include "sys/signal_safe_calls.hpp"

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

std::array<char, 17> thread_name() noexcept PAGETRAP_SIGNAL_SAFE {
  std::array<char, 17> name{};
  static_cast<void>(raw_syscall6(SYS_prctl, PR_GET_NAME,
                                 reinterpret_cast<unsigned long>(name.data()), 0, 0, 0, 0));
  return name;
}

}  // namespace pagetrap::sys
