// What is told on a signal and at the end.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <pagetrap/core/signal_safe_text.hpp>

#include "memory/keeper.hpp"
#include "sys/fd.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::preload {
namespace {

/// As "12.3 MiB".
void mebibytes(SignalSafeText& line, std::size_t bytes) noexcept {
  const std::size_t tenths = (bytes * 10 + 512_KiB) / 1_MiB;
  line.unsigned_decimal(tenths / 10).text(".").unsigned_decimal(tenths % 10).text(" MiB");
}

void name_of_program(SignalSafeText& line) noexcept {
  std::array<char, 32> name{};
  const sys::Descriptor file(::open("/proc/self/comm", O_RDONLY | O_CLOEXEC));
  const ssize_t got = file.valid() ? ::read(file.get(), name.data(), name.size()) : 0;
  if (got > 1) line.text({name.data(), static_cast<std::size_t>(got) - 1});
}

}  // namespace

// "pagetrap: memory: NAME[PID]: FIELD AMOUNT; ..."
void Keeper::report(bool at_exit) noexcept {
  const OwnWork own;
  const int saved = errno;
  SignalSafeText line;
  line.text("pagetrap: memory: ");
  name_of_program(line);
  line.text("[").decimal(::getpid()).text(at_exit ? "] at exit: budget " : "]: budget ");
  mebibytes(line, settings_.budget_bytes);
  line.text(settings_.total ? " in total; mapped " : "; mapped ");
  mebibytes(line, territory.taken());
  if (!active()) {
    line.text("; within the budget\n");
  } else {
    const pager::RegionStatistics pages = region_->statistics();
    const compress::CompressedSourceStatistics stored = source_->statistics();
    const std::size_t bytes = stored.store.pages() << page_shift();
    line.text("; resident ");
    mebibytes(line, pages.resident_pages << page_shift());
    line.text("; stored ");
    mebibytes(line, stored.store.memory_bytes());
    line.text(" for ");
    mebibytes(line, bytes);
    const std::size_t held = stored.store.memory_bytes();
    line.text(" (ratio ").unsigned_decimal(held != 0 ? bytes / held : 0).text(".");
    line.unsigned_decimal(held != 0 ? bytes * 100 / held % 100 / 10 : 0);
    line.unsigned_decimal(held != 0 ? bytes * 100 / held % 10 : 0);
    line.text("); faults ").unsigned_decimal(pages.faults);
    line.text("; filled ").unsigned_decimal(pages.filled);
    line.text("; evicted ").unsigned_decimal(pages.evicted);
    line.text("; unchanged ").unsigned_decimal(pages.unchanged);
    line.text("; failed ").unsigned_decimal(pages.failed_fills + pages.failed_writes);
    line.text("; by ").text(needs_holds() ? "signals\n" : "threads\n");
  }
  const char* const path = settings_.report_file.data();
  const sys::Descriptor file(
      path[0] == '\0' ? -1 : ::open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666));
  // Where the file cannot be had, standard error: nowhere else can say so.
  static_cast<void>(sys::write_all(file.valid() ? file.get() : STDERR_FILENO, line.view().data(),
                                   line.view().size()));
  errno = saved;
}

// In a signal handler.
void Keeper::ask_for_report() noexcept {
  if (watching_.load()) {
    report_wanted_.store(true);
    bell_.fetch_add(1);
    sys::futex_wake_all(bell_);
  } else if (!active()) {
    report(false);  // takes no lock then
  }
}

}  // namespace pagetrap::preload
