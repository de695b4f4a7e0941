#include "vm/channel.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <mutex>
#include <new>
#include <system_error>

#include <pagetrap/core/signal_safe_text.hpp>
#include <pagetrap/vm/freeze.hpp>

#include "sys/kernel_abi.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/time_slice.hpp"
#include "vm/dispatch.hpp"
#include "vm/no_signals.hpp"
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

// A declined fault. The faulting thread sleeps in the kernel, perhaps in a system call, where no
// signal reaches it. Its page is closed to everybody by mprotect(2) and the thread woken: user code
// then gets the SIGSEGV of that very access, which goes to whoever was there before pagetrap, and a
// system call EFAULT. A later unprotect() or supply() opens the page again.
// RACE another thread's fault on the page is resolved meanwhile: a handler that says both of one
// page gets one of them.
void decline(RegionState& state, const Fault& fault) noexcept {
  state.declined.store(true, std::memory_order_seq_cst);
  const int prot = fault.kind == FaultKind::write_protected ? PROT_READ : PROT_NONE;
  if (const int error = sys::change_protection(fault.page, prot)) {
    // Out of mappings. Nothing else works for all kinds of fault: end here, and say why.
    SignalSafeText line;
    line.text("pagetrap: fault at ").pointer(fault.address).text(" in thread ");
    line.decimal(fault.thread).text(" was declined by its handler (mprotect: errno ");
    line.decimal(error).text(")\n");
    sys::write_all(STDERR_FILENO, line.view().data(), line.view().size());
    ::abort();
  }
  sys::uffd_wake(state.uffd, fault.page);
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
    // EAGAIN while tables are moving resolves nothing.
    sys::uffd_wake(uffd, page_of(address));
    return;
  }
  Fault fault = as_fault(message, *state);
  sys::this_thread().found_tables_moving = false;
  Verdict verdict = deliver(*state, fault);
  // Whatever the handler made of the EAGAIN.
  if (sys::this_thread().found_tables_moving) verdict = Verdict::retry;
  // RACE the page was resolved before the thread went to sleep, by this handler or another: the
  // kernel looks again at the page after it has queued the thread, and every resolving call wakes
  // all that are queued. So `resolved` needs no wake-up of its own.
  if (verdict == Verdict::resolved) return;
  if (verdict == Verdict::not_mine) return decline(*state, fault);
  // Retry. In a frozen region the thread may sleep on: thaw() wakes it.
  if (!fault.frozen) sys::uffd_wake(uffd, fault.page);
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
  auto opened = open_descriptor();
  if (!opened) return opened.error();
  uffd_ = std::move(*opened);
  return kDone;
}

Result<sys::Userfaultfd> Channel::open_descriptor() const {
  std::uint64_t features = needs_.features;
  if (needs_.handler_threads != 0) features |= UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_EXACT_ADDRESS;
  // Readers block in read(2): polling first would cost each fault a second system call.
  return sys::open_userfaultfd(features, needs_.kernel_mode, needs_.busy_poll);
}

// Nothing but a message ends a blocking read, so a thread is stopped by a fault on its sentinel
// page.
Outcome Channel::register_sentinels() noexcept {
  const int error =
      sys::uffd_register(uffd_.descriptor.get(), sentinels_.range(), UFFDIO_REGISTER_MODE_MISSING);
  return error == 0 ? kDone : Error{"UFFDIO_REGISTER of sentinel pages", error, sentinels_.range()};
}

Outcome Channel::start_threads() {
  if (needs_.handler_threads == 0) return kDone;
  sys::Mapping::Request request;
  request.size_bytes = bytes(Pages{needs_.handler_threads});
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  auto sentinels = sys::Mapping::create(request);
  if (!sentinels) return sentinels.error();
  sentinels_ = std::move(*sentinels);
  if (const Outcome outcome = register_sentinels(); failed(outcome)) return outcome;
  // Handler threads take no signals of the program's: a signal handler touching a served page there
  // would wait for itself. Broadcasts must reach them like everybody.
  Outcome outcome = kDone;
  try {
    const NoSignals none;
    while (threads_.size() < needs_.handler_threads) threads_.emplace_back([this] { serve(); });
  } catch (const std::system_error& refused) {
    outcome = Error{"pthread_create of a fault handler thread",
                    refused.code().value(),
                    {},
                    "too many threads (RLIMIT_NPROC) or mappings"};
  }
  if (failed(outcome)) stop_threads();
  return outcome;
}

// Blocks until some handler thread has read the message; that one ends.
void Channel::stop_one(std::byte* sentinel) noexcept {
  if ((needs_.features & UFFD_FEATURE_SIGBUS) == 0) {
    *static_cast<volatile std::byte*>(sentinel) = std::byte{1};
    return;
  }
  // Faults of such a channel are signals; its thread reads remap events, so that is what it gets.
  void* const moved =
      ::mremap(sentinel, page_size(), page_size(), MREMAP_MAYMOVE | MREMAP_DONTUNMAP, nullptr);
  if (moved != MAP_FAILED) ::munmap(moved, page_size());
}

// Not inside one of these threads: they run handlers of regions that hold this channel, and the end
// of a region waits for its handlers.
void Channel::stop_threads() noexcept {
  for (std::size_t i = 0; i < threads_.size(); ++i) stop_one(sentinels_.data() + bytes(Pages{i}));
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

// One handler thread, until it reads a fault on a sentinel.
void Channel::serve() noexcept {
  sys::this_thread().served_channel = this;
  // Where faults are signals it reads remap events only, and a thread that moves page tables waits.
  if ((needs_.features & UFFD_FEATURE_SIGBUS) != 0) {
    sys::go_first();
  } else {
    sys::ask_for_short_turns();
  }
  const int uffd = uffd_.descriptor.get();
  const PageRange sentinels = sentinels_.range();
  std::array<uffd_msg, kBatch> messages;
  for (bool stopping = false; !stopping;) {
    const ssize_t got = ::read(uffd, messages.data(), sizeof messages);
    if (got < 0) {
      if (errno == EAGAIN || errno == EINTR) continue;  // EAGAIN: busy polling
      return;
    }
    const auto count = static_cast<std::size_t>(got) / sizeof(uffd_msg);
    for (std::size_t i = 0; i < count; ++i) {
      // EVENT_REMAP needs only to be read: that is what mremap() waits for.
      if (messages[i].event == UFFD_EVENT_REMAP)
        stopping |= sentinels.contains(reinterpret_cast<void*>(messages[i].arg.remap.from));
      if (messages[i].event != UFFD_EVENT_PAGEFAULT) continue;
      const auto* const address =
          reinterpret_cast<const std::byte*>(messages[i].arg.pagefault.address);
      if (!sentinels.contains(address)) {
        handle_pagefault(uffd, messages[i]);
        continue;
      }
      // Two sentinels in one batch are for two threads: this one serves both by ending, and lets
      // the other's message be raised again by waking its toucher without resolving it.
      std::size_t done = 0;
      if (stopping) {
        sys::uffd_wake(uffd, page_of(address));
      } else {
        // If that is refused, plain memory will do: ending the registration wakes the toucher too.
        if (sys::uffd_zero(uffd, page_of(address), done) != 0)
          sys::uffd_unregister(uffd, page_of(address));
        stopping = true;
      }
    }
  }
}

void Channel::lock_all() noexcept { channels().lock.lock(); }
void Channel::unlock_all() noexcept { channels().lock.unlock(); }

Outcome Channel::replace_in_child() noexcept {
  // The std::thread objects name threads that do not exist here. They may be neither joined nor
  // destroyed while joinable; nor detached, since their stacks may be those of threads that were
  // started here since, for another channel. So they are forgotten.
  for (std::thread& thread : threads_) new (&thread) std::thread;
  threads_.clear();
  const int old = uffd_.descriptor.get();
  auto opened = open_descriptor();
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
