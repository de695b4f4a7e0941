#include <pagetrap/vm/signals.hpp>

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>

#include <pagetrap/trace/trace.hpp>

#include "sys/mapping.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/thread_state.hpp"
#include "vm/dispatch.hpp"
#include "vm/fork.hpp"
#include "vm/keys.hpp"
#include "vm/outer_frames.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

constexpr int kMaxChain = 8;  // times others put themselves in front and we put ourselves back

// Actions found in front of ours, oldest first. Entries are written before `length` covers them and
// never change after, so handlers read them without a lock.
struct Chain {
  std::array<struct sigaction, kMaxChain> previous{};
  std::array<std::atomic<bool>, kMaxChain> spent{};  // SA_RESETHAND, and it has run
  std::atomic<int> length{0};
};

Chain g_segv_chain;
Chain g_bus_chain;
std::mutex g_install;
constinit std::atomic<StrayFault> g_stray_fault{nullptr};

Chain& chain_of(int signal) noexcept PAGETRAP_SIGNAL_SAFE {
  return signal == SIGSEGV ? g_segv_chain : g_bus_chain;
}

bool is_default_or_ignored(const struct sigaction& action) noexcept PAGETRAP_SIGNAL_SAFE {
  return (action.sa_flags & SA_SIGINFO) == 0 &&
         (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN);
}

// Die as the program would have without us. A synchronous fault happens again under the default
// action, at its own instruction; a signal somebody sent is sent again.
void fall_back_to_default(int signal, bool synchronous) noexcept PAGETRAP_SIGNAL_SAFE {
  struct sigaction by_default {};
  by_default.sa_handler = SIG_DFL;
  sys::set_signal_action(signal, by_default);
  if (!synchronous) sys::thread_kill(sys::thread_id(), signal);
}

// Whether the entry asked to be reset after one signal, and this is not the first.
bool is_spent(Chain& chain, std::size_t entry) noexcept PAGETRAP_SIGNAL_SAFE {
  return (chain.previous[entry].sa_flags & static_cast<int>(SA_RESETHAND)) != 0 &&
         chain.spent[entry].exchange(true);
}

// Runs an earlier action as the kernel would have, with its mask.
void run_previous(const struct sigaction& action, int signal, siginfo_t* info,
                  void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  sigset_t mask = action.sa_mask;
  if ((action.sa_flags & SA_NODEFER) == 0) mask.__val[0] |= 1UL << (signal - 1);
  sigset_t old;
  sys::change_signal_mask(SIG_BLOCK, mask, &old);
  keys_as_allowed();
  sys::call_foreign_handler(action, signal, info, context);
  sys::change_signal_mask(SIG_SETMASK, old, nullptr);
}

void pass_on(int signal, siginfo_t* info, void* context, void* frame, bool passed_back) noexcept
    PAGETRAP_SIGNAL_SAFE {
  trace::record(trace::Kind::chain, info->si_addr, static_cast<std::uint64_t>(signal));
  Chain& chain = chain_of(signal);
  // If the entry that runs it passes the fault back to us (it had saved our action as ITS previous
  // one), go on to the next older entry instead of round in a circle.
  sys::ThreadState& self = sys::this_thread();
  const sys::ThreadState outer = self;
  const int newest = chain.length.load(std::memory_order_acquire);
  const int entry = (passed_back ? outer.passing_entry : newest) - 1;
  const bool synchronous = info->si_code > 0;
  if (entry < 0 || is_default_or_ignored(chain.previous[static_cast<std::size_t>(entry)]) ||
      is_spent(chain, static_cast<std::size_t>(entry))) {
    // The kernel does not let a synchronous fault be ignored either. A sent one may be.
    const bool ignored =
        entry >= 0 && chain.previous[static_cast<std::size_t>(entry)].sa_handler == SIG_IGN;
    if (synchronous || !ignored) fall_back_to_default(signal, synchronous);
    return;
  }
  self.passing_context = context;
  self.passing_frame = frame;
  self.passing_entry = entry;
  run_previous(chain.previous[static_cast<std::size_t>(entry)], signal, info, context);
  self.passing_context = outer.passing_context;
  self.passing_frame = outer.passing_frame;
  self.passing_entry = outer.passing_entry;
}

// Whether an earlier handler, to which this thread is passing the very fault, has called us with
// it. A handler that was left by siglongjmp leaves its record behind, and the next fault at the
// same stack depth has the same context address: but then the kernel calls us, at the same frame as
// before, and not a handler further down the stack.
bool is_passed_back(const void* context, const void* frame) noexcept PAGETRAP_SIGNAL_SAFE {
  const sys::ThreadState& self = sys::this_thread();
  return self.passing_context == context &&
         reinterpret_cast<std::uintptr_t>(frame) <
             reinterpret_cast<std::uintptr_t>(self.passing_frame);
}

[[gnu::hot]] void on_signal(int signal, siginfo_t* info, void* context) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const sys::ErrnoSaver errno_saver;
  const KeysOpenInHandler keys;
  void* const frame = __builtin_frame_address(0);
  const bool passed_back = is_passed_back(context, frame);
  // si_code > 0: raised by the kernel for an access of this thread; else somebody sent it. What is
  // passed back has been looked at already.
  if (info->si_code > 0 && !passed_back &&
      dispatch_signal(signal, info->si_code, info->si_addr, context)) [[likely]]
    return;
  const StrayFault look = g_stray_fault.load(std::memory_order_acquire);
  if (look != nullptr && !passed_back) look(*info, context);
  pass_on(signal, info, context, frame, passed_back);
}

bool in_front(int signal) noexcept {
  void (*const ours)(int, siginfo_t*, void*) = on_signal;
  struct sigaction current {};
  return ::sigaction(signal, nullptr, &current) == 0 && (current.sa_flags & SA_SIGINFO) != 0 &&
         current.sa_sigaction == ours;
}

Outcome install_for(int signal) noexcept {
  if (in_front(signal)) return kDone;
  Chain& chain = chain_of(signal);
  const int length = chain.length.load(std::memory_order_relaxed);
  if (length == kMaxChain)
    return Error{"install_signal_handlers",
                 ELOOP,
                 {},
                 "another library keeps replacing the handler; "
                 "let it pass foreign faults on instead"};
  struct sigaction ours {};
  ours.sa_sigaction = on_signal;
  // No SA_RESTART question arises for synchronous signals; SA_NODEFER and the empty mask let a
  // handler fault in its turn.
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  ::sigemptyset(&ours.sa_mask);
  // RACE a fault between the two calls finds the chain as it was; the entry is published first, so
  // whoever runs our handler sees the action that this call replaces.
  struct sigaction& slot = chain.previous[static_cast<std::size_t>(length)];
  if (::sigaction(signal, nullptr, &slot) != 0) return Error{"sigaction", errno};
  ours.sa_flags |= slot.sa_flags & SA_RESTART;  // for signals that somebody sends
  chain.length.store(length + 1, std::memory_order_release);
  if (::sigaction(signal, &ours, nullptr) != 0) {
    chain.length.store(length, std::memory_order_release);
    return Error{"sigaction", errno};
  }
  return kDone;
}

// A thread's own alternate stack, freed when the thread exits.
struct AlternateStack {
  sys::Mapping memory;
  ~AlternateStack() {
    if (memory.range().empty()) return;
    stack_t off{};
    off.ss_flags = SS_DISABLE;
    ::sigaltstack(&off, nullptr);
  }
};

}  // namespace

Result<Done> install_signal_handlers() {
  const std::lock_guard guard(g_install);
  for (const int signal : {SIGSEGV, SIGBUS}) {
    if (const Outcome outcome = install_for(signal); failed(outcome)) return outcome;
  }
  learn_signal_restorer();
  return Done{};
}

void on_stray_fault(StrayFault look) noexcept {
  g_stray_fault.store(look, std::memory_order_release);
}

void lock_installation() noexcept { g_install.lock(); }
void unlock_installation() noexcept { g_install.unlock(); }

bool signal_handlers_in_front() noexcept { return in_front(SIGSEGV) && in_front(SIGBUS); }

Result<Done> ensure_alternate_stack(std::size_t size_bytes) {
  stack_t current{};
  if (::sigaltstack(nullptr, &current) != 0) return Error{"sigaltstack", errno};
  if ((current.ss_flags & SS_DISABLE) == 0) return Done{};
  const std::size_t least = static_cast<std::size_t>(::sysconf(_SC_SIGSTKSZ));
  const std::size_t usable = bytes(pages_for(size_bytes < least ? least : size_bytes));
  sys::Mapping::Request request;
  request.size_bytes = usable + page_size();  // the lowest page stays a guard
  request.prot = PROT_NONE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK;
  auto memory = sys::Mapping::create(request);
  if (!memory) return memory.error();
  std::byte* const base = memory->data() + page_size();
  if (const int error = sys::change_protection({base, pages_for(usable)}, PROT_READ | PROT_WRITE))
    return Error{"mprotect of an alternate stack", error};
  stack_t stack{};
  stack.ss_sp = base;
  stack.ss_size = usable;
  if (::sigaltstack(&stack, nullptr) != 0) return Error{"sigaltstack", errno};
  static thread_local AlternateStack t_stack;
  t_stack.memory = std::move(*memory);
  return Done{};
}

}  // namespace v0
}  // namespace pagetrap
