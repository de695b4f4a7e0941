#include "sys/injection.hpp"

#include <atomic>

namespace pagetrap::sys {

namespace {
std::atomic<int> g_error{0};
std::atomic<int> g_skip{0};
std::atomic<int> g_times{0};
}  // namespace

void inject(Call call, int error, int skip, int times) noexcept {
  switches.injected_call.store(0);
  g_error.store(error);
  g_skip.store(skip);
  g_times.store(times);
  switches.injected_call.store(static_cast<int>(call));
}

int injected_slow(Call) noexcept PAGETRAP_SIGNAL_SAFE {
  if (g_skip.fetch_sub(1) > 0) return 0;
  if (g_times.fetch_sub(1) > 0) return g_error.load();
  return 0;
}

}  // namespace pagetrap::sys
