// What is said of a misuse.
#include <pagetrap/core/signal_safe_text.hpp>

#include <stdlib.h>
#include <unistd.h>

#include "guard/arena/arena_state.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

std::string_view words_for(Misuse what) noexcept PAGETRAP_SIGNAL_SAFE {
  switch (what) {
    case Misuse::stale_read:
      return "read of a destroyed object";
    case Misuse::stale_write:
      return "write to a destroyed object";
    case Misuse::destroyed_twice:
      return "destroy() of an object that was destroyed before";
    case Misuse::not_an_object:
      return "destroy() of what is no object";
    case Misuse::of_another_type:
      return "destroy() by a pointer to another type";
  }
  return "";
}

void print(const MisuseReport& report) noexcept PAGETRAP_SIGNAL_SAFE {
  SignalSafeText line;
  line.text("pagetrap: ").text(words_for(report.what)).text(": ").pointer(report.address);
  if (report.object != nullptr) {
    const auto offset = reinterpret_cast<std::uintptr_t>(report.address) -
                        reinterpret_cast<std::uintptr_t>(report.object);
    line.text(" is ").unsigned_decimal(offset).text(" bytes into the ").text(report.type);
    line.text(" (").unsigned_decimal(report.size_bytes).text(" bytes) at ").pointer(report.object);
  }
  line.text(", thread ").decimal(report.thread).text("\n");
  sys::write_all(STDERR_FILENO, line.view().data(), line.view().size());
}

}  // namespace

void ArenaState::report(Misuse what, const void* address) noexcept PAGETRAP_SIGNAL_SAFE {
  const Found found = find(address);
  MisuseReport report;
  report.what = what;
  report.address = address;
  report.thread = sys::thread_id();
  if (found.object != nullptr) {
    report.object = found.object;
    report.type = found.type->name;
    report.size_bytes = found.type->size_bytes;
  }
  if (options.on_misuse != nullptr) return options.on_misuse(options.self, report);
  print(report);
  // A stale access ends the process by its own signal, unless somebody handles that.
  if (what == Misuse::stale_read || what == Misuse::stale_write) return;
  sys::call_unproved([](void*) { ::abort(); }, nullptr);  // in signal-safety(7)
}

Verdict ArenaState::on_fault(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
  static_cast<ArenaState*>(self)->report(fault.write ? Misuse::stale_write : Misuse::stale_read,
                                         fault.address);
  return Verdict::not_mine;
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
