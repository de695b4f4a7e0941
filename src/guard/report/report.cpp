// What happens after a finding: it is written, and the process ends or goes on.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <span>

#include <pagetrap/guard/problem.hpp>

#include "guard/report/words.hpp"
#include "guard/stacks/recursion.hpp"
#include "guard/unwind/depot.hpp"
#include "sys/alternate_stack.hpp"
#include "sys/filter.hpp"
#include "sys/process_names.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

constinit ReportOptions settings{};
constinit std::atomic<unsigned> count{0};
constinit std::atomic<pid_t> reporting{0};  // the thread that writes
constinit Account account{};
constinit Text text{};

void put(const char* file, std::string_view words) noexcept PAGETRAP_SIGNAL_SAFE {
  const int opened = file != nullptr ? sys::open_for_append(file) : -1;
  // Where the file cannot be had, standard error says it.
  static_cast<void>(
      sys::write_all(opened >= 0 ? opened : STDERR_FILENO, words.data(), words.size()));
  if (opened >= 0) sys::close_file(opened);
}

Frames frames_of(std::span<const StackFrame> some) noexcept PAGETRAP_SIGNAL_SAFE {
  Frames frames;
  for (const StackFrame& frame : some)
    if (frames.count < frames.addresses.size()) frames.addresses[frames.count++] = frame.pc;
  return frames;
}

// Returns which of the account's stacks begins with the interrupted instruction.
std::size_t look_at_recursion(const UsedUp& used_up) noexcept PAGETRAP_SIGNAL_SAFE {
  account.recursion = &find_recursion(*used_up.stack, used_up.context);
  account.here = frames_of(account.recursion->turn());
  account.allocated = frames_of(account.recursion->called());
  return account.allocated.count == 0 ? 0 : 1;
}

void write_everything(const Finding& finding) noexcept PAGETRAP_SIGNAL_SAFE {
  account.finding = &finding;
  account.recursion = nullptr;
  account.here = finding.here;
  account.allocated = recall_stack(finding.allocated_at);
  account.freed = recall_stack(finding.freed_at);
  std::size_t interrupted = finding.is_access ? 0 : Symbols::kNone;
  if (finding.used_up != nullptr) interrupted = look_at_recursion(*finding.used_up);
  text.clear();
  write_headline(finding, text);
  put(settings.text_file, text.view());  // at once: what follows may take a while
  const std::array<const Frames*, 3> stacks{&account.here, &account.allocated, &account.freed};
  account.symbols.ask(settings.symboliser, stacks.data(), stacks.size(), interrupted);
  text.clear();
  write_stacks(account, text);
  put(settings.text_file, text.view());
  if (settings.json_file == nullptr) return;
  text.clear();
  write_json(account, text);
  put(settings.json_file, text.view());
}

void run_debugger() noexcept PAGETRAP_SIGNAL_SAFE {
  text.clear();
  for (const char* at = settings.debugger; *at != '\0'; ++at) {
    if (at[0] == '%' && at[1] == 'p') {
      text.unsigned_decimal(static_cast<std::uint64_t>(sys::process_id()));
      ++at;
    } else {
      text.text({at, 1});
    }
  }
  text.text(std::string_view("\0", 1));
  static_cast<void>(sys::run_shell(text.view().data()));
}

[[noreturn]] void end() noexcept PAGETRAP_SIGNAL_SAFE {
  if (settings.debugger != nullptr) run_debugger();
  if (settings.dump_core) {
    struct sigaction by_default {};
    by_default.sa_handler = SIG_DFL;
    sys::set_signal_action(SIGABRT, by_default);
    sigset_t abort_only;
    ::sigemptyset(&abort_only);
    ::sigaddset(&abort_only, SIGABRT);
    sys::thread_kill(sys::thread_id(), SIGABRT);
    sys::change_signal_mask(SIG_UNBLOCK, abort_only, nullptr);
  }
  sys::end_process(settings.exit_code);
}

}  // namespace

void report_to(const ReportOptions& options) noexcept { settings = options; }

unsigned reports() noexcept { return count.load(); }

void report(Finding& finding) noexcept PAGETRAP_SIGNAL_SAFE {
  const sys::ErrnoSaver errno_saver;
  const pid_t self = sys::thread_id();
  for (pid_t nobody = 0; !reporting.compare_exchange_strong(nobody, self); nobody = 0) {
    // A problem inside of a report: what has been written must do.
    if (nobody == self) sys::end_process(settings.exit_code);
    sys::yield();
  }
  // Those of others would run on the stack where our frames are.
  const sys::AllSignalsBlocked blocked(sys::AllSignalsBlocked::But::faults);
  const unsigned number = count.fetch_add(1) + 1;
  // The program's alternate stack may be small.
  sys::call_with_room(
      [](void* what) noexcept { write_everything(*static_cast<const Finding*>(what)); }, &finding);
  const bool goes_on = finding.used_up != nullptr ? finding.used_up->goes_on : settings.go_on;
  if (!goes_on || number >= settings.most_reports) end();
  reporting.store(0);
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
