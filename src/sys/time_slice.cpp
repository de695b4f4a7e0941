#include "sys/time_slice.hpp"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace pagetrap::sys {
namespace {

constexpr std::uint64_t kShortest = 100'000;  // ns: the kernel takes no less

// struct sched_attr of the first version; glibc 2.36 does not declare it, and <linux/sched/types.h>
// clashes with <sched.h>.
struct Attributes {
  std::uint32_t size = sizeof(Attributes);
  std::uint32_t policy = 0;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime = 0;
  std::uint64_t deadline = 0;
  std::uint64_t period = 0;
};

bool get(Attributes& attributes) noexcept {
  return ::syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) == 0;
}

}  // namespace

void ask_for_short_turns() noexcept {
  Attributes attributes;
  if (!get(attributes) || (attributes.policy != SCHED_OTHER && attributes.policy != SCHED_BATCH))
    return;
  attributes.runtime = kShortest;
  // A refusal leaves it as it is: slower, and right.
  static_cast<void>(::syscall(SYS_sched_setattr, 0, &attributes, 0));
}

void go_first() noexcept {
  Attributes attributes;
  if (!get(attributes) || (attributes.policy != SCHED_OTHER && attributes.policy != SCHED_BATCH))
    return;
  sched_param lowest{};
  lowest.sched_priority = 1;
  if (::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &lowest) != 0)
    ask_for_short_turns();
}

void give_way() noexcept {
  Attributes attributes;
  if (!get(attributes) || (attributes.policy != SCHED_OTHER && attributes.policy != SCHED_BATCH))
    return;
  attributes.nice = 19;
  static_cast<void>(::syscall(SYS_sched_setattr, 0, &attributes, 0));
}

unsigned long long turn_of_this_thread() noexcept {
  Attributes attributes;
  return get(attributes) ? attributes.runtime : 0;
}

}  // namespace pagetrap::sys
