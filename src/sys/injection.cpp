#include "sys/injection.hpp"

namespace pagetrap::sys {

std::atomic<int> injection_target{0};

namespace {
std::atomic<int> g_error{0};
std::atomic<int> g_skip{0};
std::atomic<int> g_times{0};
}  // namespace

void inject(Call call, int error, int skip, int times) noexcept {
  injection_target.store(0);
  g_error.store(error);
  g_skip.store(skip);
  g_times.store(times);
  injection_target.store(static_cast<int>(call));
}

int injected_slow(Call) noexcept PAGETRAP_SIGNAL_SAFE {
  if (g_skip.fetch_sub(1) > 0) return 0;
  if (g_times.fetch_sub(1) > 0) return g_error.load();
  return 0;
}

}  // namespace pagetrap::sys
