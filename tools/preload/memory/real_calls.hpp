// The functions that we stand in front of.
#pragma once

#include <pthread.h>
#include <signal.h>

#include "common/real.hpp"

namespace pagetrap::preload {

namespace real {
extern Real<int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)> pthread_create;
extern Real<int(int, const sigset_t*, sigset_t*)> pthread_sigmask;
}  // namespace real

}  // namespace pagetrap::preload
