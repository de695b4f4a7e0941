#include "vm/channel.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <mutex>
#include <system_error>

#include <pagetrap/core/signal_safe_text.hpp>

#include "sys/kernel_abi.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/dispatch.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

struct Channels {
  std::mutex lock;
  std::vector<std::weak_ptr<Channel>> all;
};

Channels& channels() {
  static auto* const the_channels = new Channels;  // leaked: see registry.cpp
  return *the_channels;
}

constexpr std::size_t kBatch = 16;  // messages a thread takes at once; more starves its siblings

Fault as_fault(const uffd_msg& message, const RegionState& state) noexcept {
  Fault fault;
  const std::uint64_t flags = message.arg.pagefault.flags;
  fault.address = reinterpret_cast<std::byte*>(message.arg.pagefault.address);
  fault.page = page_of(fault.address);
  fault.write = (flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP)) != 0;
  fault.thread = static_cast<pid_t>(message.arg.pagefault.feat.ptid);
  if ((flags & UFFD_PAGEFAULT_FLAG_WP) != 0) {
    fault.kind = FaultKind::write_protected;
  } else if ((flags & UFFD_PAGEFAULT_FLAG_MINOR) != 0) {
    fault.kind =
        state.pages.get(fault.address) == PageState::none ? FaultKind::no_access : FaultKind::minor;
  } else {
    fault.kind = FaultKind::missing;
  }
  return fault;
}

// A declined fault. The faulting thread sleeps in the kernel; the nearest thing to "give the signal
// to whoever was there before" is to say where, and send SIGSEGV to that very thread.
void decline(const Fault& fault) noexcept {
  SignalSafeText line;
  line.text("pagetrap: fault at ").pointer(fault.address).text(" in thread ").decimal(fault.thread);
  line.text(" was declined by its handler; sending SIGSEGV\n");
  sys::write_all(STDERR_FILENO, line.view().data(), line.view().size());
  if (fault.thread != 0) {
    sys::thread_kill(fault.thread, SIGSEGV);
  } else {
    ::kill(::getpid(), SIGSEGV);
  }
}

void handle_pagefault(int uffd, const uffd_msg& message) noexcept {
  auto* const address = reinterpret_cast<std::byte*>(message.arg.pagefault.address);
  const Pinned pinned = Pinned::find(address);
  RegionState* const state = pinned.get();
  // RACE the region was withdrawn after the fault was raised. Its unregistration wakes the thread,
  // which then faults without us.
  if (state == nullptr) return;
  if (!state->range.contains(address)) {  // the window of a lift
    static_cast<void>(fill_hole(*state, page_of(address)));
    return;
  }
  Fault fault = as_fault(message, *state);
  const Verdict verdict = deliver(*state, fault);
  if (verdict == Verdict::not_mine) return decline(fault);
  if (verdict == Verdict::retry && fault.frozen) {
    // The thread may sleep on: thaw() unprotects the region, which wakes it.
    return;
  }
  // RACE the handler resolved the page before this thread went to sleep, or another handler did:
  // the wake-up may have been missed. Waking once more is harmless (the access runs again).
  sys::uffd_wake(uffd, fault.page);
}

}  // namespace

Result<std::shared_ptr<Channel>> Channel::get(const Needs& needs) {
  Channels& known = channels();
  const std::lock_guard guard(known.lock);
  std::erase_if(known.all, [](const auto& channel) { return channel.expired(); });
  if (!needs.own) {
    for (const auto& weak : known.all) {
      auto channel = weak.lock();
      if (channel != nullptr && channel->needs_ == needs) return channel;
    }
  }
  auto channel = std::make_shared<Channel>(needs);
  if (const Outcome outcome = channel->open(); failed(outcome)) return outcome;
  if (const Outcome outcome = channel->start_threads(); failed(outcome)) return outcome;
  known.all.push_back(channel);
  return channel;
}

Channel::~Channel() { stop_threads(); }

Outcome Channel::open() {
  std::uint64_t features = needs_.features;
  if (needs_.handler_threads != 0) features |= UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_EXACT_ADDRESS;
  // Readers poll the stop event too, so their reads must not block.
  auto opened = sys::open_userfaultfd(features, needs_.kernel_mode, true);
  if (!opened) return opened.error();
  uffd_ = std::move(*opened);
  return kDone;
}

Outcome Channel::start_threads() {
  if (needs_.handler_threads == 0) return kDone;
  stop_ = sys::Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_.valid()) return Error{"eventfd", errno};
  // Handler threads take no signals of the program's: a signal handler touching a served page there
  // would wait for itself.
  sigset_t all;
  sigset_t old;
  ::sigfillset(&all);
  for (const int synchronous : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) ::sigdelset(&all, synchronous);
  ::pthread_sigmask(SIG_SETMASK, &all, &old);
  Outcome outcome = kDone;
  try {
    while (threads_.size() < needs_.handler_threads) threads_.emplace_back([this] { serve(); });
  } catch (const std::system_error& refused) {
    outcome = Error{"pthread_create of a fault handler thread",
                    refused.code().value(),
                    {},
                    "too many threads (RLIMIT_NPROC) or mappings"};
  }
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (failed(outcome)) stop_threads();
  return outcome;
}

void Channel::stop_threads() noexcept {
  if (threads_.empty()) return;
  const std::uint64_t one = 1;
  sys::write_all(stop_.get(), reinterpret_cast<const char*>(&one), sizeof one);
  for (std::thread& thread : threads_) {
    // The last region of a channel may end inside one of its own handler threads.
    if (thread.get_id() == std::this_thread::get_id()) {
      thread.detach();
    } else {
      thread.join();
    }
  }
  threads_.clear();
}

// One handler thread. The descriptors are read once: in a fork()ed child this thread is gone.
void Channel::serve() noexcept {
  const int uffd = uffd_.descriptor.get();
  std::array<pollfd, 2> ready{{{uffd, POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
  std::array<uffd_msg, kBatch> messages;
  unsigned idle_reads = 0;
  for (;;) {
    // Busy polling looks at the stop event only every so often: it costs a system call as well.
    constexpr unsigned kReadsBetweenStops = 1024;
    if (!needs_.busy_poll || ++idle_reads % kReadsBetweenStops == 0) {
      if (::poll(ready.data(), ready.size(), needs_.busy_poll ? 0 : -1) < 0 && errno != EINTR)
        return;
      if (ready[1].revents != 0) return;
    }
    const ssize_t got = ::read(uffd, messages.data(), sizeof messages);
    if (got < 0) {
      if (errno == EAGAIN || errno == EINTR) continue;
      return;  // the descriptor is gone: the region's owner is ending
    }
    const auto count = static_cast<std::size_t>(got) / sizeof(uffd_msg);
    for (std::size_t i = 0; i < count; ++i) {
      // EVENT_REMAP needs only to be read: that is what mremap() waits for.
      if (messages[i].event == UFFD_EVENT_PAGEFAULT) handle_pagefault(uffd, messages[i]);
    }
  }
}

void Channel::lock_all() noexcept { channels().lock.lock(); }
void Channel::unlock_all() noexcept { channels().lock.unlock(); }

Outcome Channel::replace_in_child() noexcept {
  // The std::thread objects name threads that do not exist here. They may be neither joined nor
  // destroyed while joinable.
  for (std::thread& thread : threads_) thread.detach();
  threads_.clear();
  const int old = uffd_.descriptor.get();
  auto opened = sys::open_userfaultfd(
      needs_.features |
          (needs_.handler_threads != 0 ? UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_EXACT_ADDRESS : 0),
      needs_.kernel_mode, true);
  if (!opened) return opened.error();
  if (::dup3(opened->descriptor.get(), old, O_CLOEXEC) < 0)
    return Error{"dup3 of a userfaultfd", errno};
  return start_threads();
}

Outcome Channel::replace_all_in_child() noexcept {
  Outcome worst = kDone;
  for (const auto& weak : channels().all) {
    const auto channel = weak.lock();
    if (channel == nullptr) continue;
    if (const Outcome outcome = channel->replace_in_child(); failed(outcome)) worst = outcome;
  }
  return worst;
}

}  // namespace v0
}  // namespace pagetrap
