// Waiting on words that may be absent: the C library's futex(2) would fail, and it aborts then. A
// lock that is free is taken without us; waking needs no page.
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <time.h>

#include <cerrno>

#include "common/exported.hpp"
#include "memory/buffers.hpp"
#include "memory/real_calls.hpp"
#include "sys/raw_syscall.hpp"

using namespace pagetrap::preload;

static constinit Real<int(sem_t*)> real_sem_wait("sem_wait");
PAGETRAP_EXPORT int sem_wait(sem_t* semaphore) {
  return holding({object(semaphore)}, [&] { return real_sem_wait(semaphore); });
}

static constinit Real<int(sem_t*, const timespec*)> real_sem_timedwait("sem_timedwait");
PAGETRAP_EXPORT int sem_timedwait(sem_t* semaphore, const timespec* until) {
  return holding({object(semaphore), object(until)},
                 [&] { return real_sem_timedwait(semaphore, until); });
}

static constinit Real<int(sem_t*, clockid_t, const timespec*)> real_sem_clockwait("sem_clockwait");
PAGETRAP_EXPORT int sem_clockwait(sem_t* semaphore, clockid_t clock, const timespec* until) {
  return holding({object(semaphore), object(until)},
                 [&] { return real_sem_clockwait(semaphore, clock, until); });
}

static constinit Real<int(pthread_barrier_t*)> real_pthread_barrier_wait("pthread_barrier_wait");
PAGETRAP_EXPORT int pthread_barrier_wait(pthread_barrier_t* barrier) noexcept {
  return holding({object(barrier)}, [&] { return real_pthread_barrier_wait(barrier); });
}

static constinit Real<int(pthread_cond_t*, pthread_mutex_t*)> real_pthread_cond_wait(
    "pthread_cond_wait", "GLIBC_2.3.2");
PAGETRAP_EXPORT int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  return holding({object(condition), object(mutex)},
                 [&] { return real_pthread_cond_wait(condition, mutex); });
}

static constinit Real<int(pthread_cond_t*, pthread_mutex_t*, const timespec*)>
    real_pthread_cond_timedwait("pthread_cond_timedwait", "GLIBC_2.3.2");
PAGETRAP_EXPORT int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                                           const timespec* until) {
  return holding({object(condition), object(mutex), object(until)},
                 [&] { return real_pthread_cond_timedwait(condition, mutex, until); });
}

static constinit Real<int(pthread_cond_t*, pthread_mutex_t*, clockid_t, const timespec*)>
    real_pthread_cond_clockwait("pthread_cond_clockwait");
PAGETRAP_EXPORT int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                                           clockid_t clock, const timespec* until) {
  return holding({object(condition), object(mutex), object(until)},
                 [&] { return real_pthread_cond_clockwait(condition, mutex, clock, until); });
}

static constinit Real<int(pthread_mutex_t*)> real_pthread_mutex_lock("pthread_mutex_lock");
PAGETRAP_EXPORT int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  if (const int got = pthread_mutex_trylock(mutex); got != EBUSY) return got;
  return holding({object(mutex)}, [&] { return real_pthread_mutex_lock(mutex); });
}

static constinit Real<int(pthread_mutex_t*, const timespec*)> real_pthread_mutex_timedlock(
    "pthread_mutex_timedlock");
PAGETRAP_EXPORT int pthread_mutex_timedlock(pthread_mutex_t* mutex,
                                            const timespec* until) noexcept {
  if (const int got = pthread_mutex_trylock(mutex); got != EBUSY) return got;
  return holding({object(mutex), object(until)},
                 [&] { return real_pthread_mutex_timedlock(mutex, until); });
}

static constinit Real<int(pthread_mutex_t*, clockid_t, const timespec*)>
    real_pthread_mutex_clocklock("pthread_mutex_clocklock");
PAGETRAP_EXPORT int pthread_mutex_clocklock(pthread_mutex_t* mutex, clockid_t clock,
                                            const timespec* until) noexcept {
  if (const int got = pthread_mutex_trylock(mutex); got != EBUSY) return got;
  return holding({object(mutex), object(until)},
                 [&] { return real_pthread_mutex_clocklock(mutex, clock, until); });
}

static constinit Real<int(pthread_rwlock_t*)> real_pthread_rwlock_rdlock("pthread_rwlock_rdlock");
PAGETRAP_EXPORT int pthread_rwlock_rdlock(pthread_rwlock_t* lock) noexcept {
  if (const int got = pthread_rwlock_tryrdlock(lock); got != EBUSY) return got;
  return holding({object(lock)}, [&] { return real_pthread_rwlock_rdlock(lock); });
}

static constinit Real<int(pthread_rwlock_t*)> real_pthread_rwlock_wrlock("pthread_rwlock_wrlock");
PAGETRAP_EXPORT int pthread_rwlock_wrlock(pthread_rwlock_t* lock) noexcept {
  if (const int got = pthread_rwlock_trywrlock(lock); got != EBUSY) return got;
  return holding({object(lock)}, [&] { return real_pthread_rwlock_wrlock(lock); });
}

// std::atomic's wait, and allocators and runtimes that wait by themselves. Our own calls come here
// too, and go straight on.
PAGETRAP_EXPORT long syscall(long number, ...) noexcept {
  va_list rest;
  va_start(rest, number);
  unsigned long words[6];
  for (unsigned long& word : words) word = va_arg(rest, unsigned long);
  va_end(rest);
  const auto call = [&] {
    return pagetrap::sys::raw_syscall6(number, words[0], words[1], words[2], words[3], words[4],
                                       words[5]);
  };
  const auto at = [&](int which) { return reinterpret_cast<const void*>(words[which]); };
  long result = 0;
  if (number == SYS_futex) {
    // The fourth word may be a number: then it is no address of ours.
    result = holding({{at(0), sizeof(int)}, {at(3), sizeof(timespec)}}, call);
  } else if (number == SYS_getrandom) {
    result = holding({{at(0), words[1]}}, call);
  } else {
    result = call();
  }
  if (result > -4096 && result < 0) {
    errno = static_cast<int>(-result);
    return -1;
  }
  return result;
}
