// The first constructor of the process (-z initfirst).
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <new>

#include <pagetrap/core/signal_safe_text.hpp>

#include "memory/allocator.hpp"
#include "memory/keeper.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::preload {
namespace {

alignas(Keeper) constinit std::array<std::byte, sizeof(Keeper)> place{};

void on_report_signal(int) {
  const int saved = errno;
  if (keeper != nullptr) keeper->ask_for_report();
  errno = saved;
}

// A program that has a handler of its own for the signal replaces ours.
void listen_for_reports(int signal) noexcept {
  struct sigaction action {};
  action.sa_handler = on_report_signal;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  if (::sigaction(signal, &action, nullptr) != 0) {
    constexpr std::string_view kWords = "pagetrap: memory: that signal cannot be caught\n";
    static_cast<void>(sys::write_all(STDERR_FILENO, kWords.data(), kWords.size()));
  }
}

[[gnu::constructor]] void begin(int, char**, char** environment) {
  Settings settings;
  const char* wrong = nullptr;
  if (!read_settings(environment, settings, wrong)) {
    SignalSafeText line;
    line.text("pagetrap: memory: no budget is kept: ").text(wrong).text(" makes no sense\n");
    static_cast<void>(sys::write_all(STDERR_FILENO, line.view().data(), line.view().size()));
    settings.budget_bytes = 0;
  }
  (new (place.data()) Keeper)->begin(settings);
  learn_callers();
  if (keeper != nullptr && settings.report_signal != 0) listen_for_reports(settings.report_signal);
}

[[gnu::destructor]] void end() {
  if (keeper != nullptr && keeper->settings().report_at_exit) keeper->report(true);
}

}  // namespace
}  // namespace pagetrap::preload
