// SIGSEGV and SIGBUS: ours are explained, all others go to whoever was there before.
//
// WHY not the ground floor's handler: it asks for a Region, whose bookkeeping allocates; this one
// must work inside of the program's first malloc.
#include <signal.h>

#include <array>
#include <atomic>
#include <cerrno>

#include <pagetrap/guard/problem.hpp>

#include "guard/engine/engine.hpp"
#include "guard/report/finding.hpp"
#include "guard/stacks/watched_stack.hpp"
#include "guard/unwind/unwind.hpp"
#include "sys/access_width.hpp"
#include "sys/alternate_stack.hpp"
#include "sys/signal_frame.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

struct Previous {
  struct sigaction action {};
};
constinit std::array<Previous, 2> previous{};  // of SIGSEGV and SIGBUS
constinit std::atomic<bool> installed{false};

Previous& of(int signal) noexcept PAGETRAP_SIGNAL_SAFE {
  return previous[signal == SIGSEGV ? 0 : 1];
}

bool goes_by_default(const struct sigaction& action) noexcept PAGETRAP_SIGNAL_SAFE {
  const bool plain = (action.sa_flags & SA_SIGINFO) == 0;
  return plain && (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN);
}

void pass_on(int signal, siginfo_t* info, void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  const struct sigaction action = of(signal).action;
  if (goes_by_default(action)) {
    const bool synchronous = info->si_code > 0;
    if (!synchronous && action.sa_handler == SIG_IGN) return;
    // The access runs again under the default action, and a core dump shows it.
    struct sigaction by_default {};
    by_default.sa_handler = SIG_DFL;
    sys::set_signal_action(signal, by_default);
    if (!synchronous) sys::thread_kill(sys::thread_id(), signal);
    return;
  }
  sigset_t mask = action.sa_mask;
  if ((action.sa_flags & SA_NODEFER) == 0) mask.__val[0] |= 1UL << (signal - 1);
  sigset_t old;
  sys::change_signal_mask(SIG_BLOCK, mask, &old);
  if ((action.sa_flags & static_cast<int>(SA_RESETHAND)) != 0) of(signal).action = {};
  sys::call_foreign_handler(action, signal, info, context);
  sys::change_signal_mask(SIG_SETMASK, old, nullptr);
}

// Without us its handler would run, on the alternate stack that it made.
bool program_handles(int signal, const WatchedStack& stack) noexcept PAGETRAP_SIGNAL_SAFE {
  const struct sigaction& action = of(signal).action;
  if (goes_by_default(action) || (action.sa_flags & SA_ONSTACK) == 0) return false;
  const stack_t alternate = sys::alternate_stack();
  return (alternate.ss_flags & SS_DISABLE) == 0 &&
         reinterpret_cast<std::uintptr_t>(alternate.ss_sp) != stack.alternate;
}

void on_overflow(int signal, siginfo_t* info, void* context, const WatchedStack& stack) noexcept
    PAGETRAP_SIGNAL_SAFE {
  const UsedUp used_up{&stack, context, program_handles(signal, stack)};
  Finding finding;
  finding.problem = Problem::stack_overflow;
  finding.address = info->si_addr;
  finding.is_access = true;
  finding.write = sys::frame_facts(context).write;
  finding.width = sys::access_width(context);
  finding.used_up = &used_up;
  report(finding);
  pass_on(signal, info, context);
}

void on_fault(int signal, siginfo_t* info, void* context) noexcept PAGETRAP_SIGNAL_SAFE {
  const sys::ErrnoSaver errno_saver;
  WatchedStack stack;
  // A stack that lies in a block ends at a guard, too.
  if (info->si_code > 0 && find_overflow(info->si_addr, context, stack))
    return on_overflow(signal, info, context, stack);
  Engine* const engine = info->si_code > 0 ? heap_of(info->si_addr) : nullptr;
  if (engine == nullptr) return pass_on(signal, info, context);
  Finding finding;
  finding.is_access = true;
  finding.write = sys::frame_facts(context).write;
  if (!engine->explain(info->si_addr, finding)) return;
  finding.width = sys::access_width(context);
  finding.here = stack_of(context);
  report(finding);
  if (!engine->let_through(info->si_addr)) pass_on(signal, info, context);
}

}  // namespace

Result<Done> install_fault_handler() noexcept {
  if (installed.exchange(true)) return Done{};
  for (const int signal : {SIGSEGV, SIGBUS}) {
    struct sigaction ours {};
    ours.sa_sigaction = on_fault;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    ::sigemptyset(&ours.sa_mask);
    if (::sigaction(signal, &ours, &of(signal).action) != 0) return Error{"sigaction", errno};
  }
  return Done{};
}

void previous_action(int signal, const struct sigaction* wanted, struct sigaction* old) noexcept {
  Previous& known = of(signal);
  if (old != nullptr) *old = known.action;
  if (wanted != nullptr) known.action = *wanted;
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
