// What `pagetrap run --memory` asks of the shim, by environment variables. docs/commands.md has
// them.
#pragma once

#include <array>
#include <csignal>
#include <cstddef>

namespace pagetrap::preload {

enum class Delivery : unsigned char { automatic, threads, signals };

struct Settings {
  std::size_t budget_bytes = 0;  // 0: nothing is done
  bool total = false;            // the budget is for compressed pages too
  Delivery delivery = Delivery::automatic;
  int report_signal = SIGUSR2;  // 0: none
  bool report_at_exit = false;
  std::array<char, 512> report_file{};  // empty: standard error
};

/// Copied: programs overwrite their environment. False: `wrong` is the variable that makes no
/// sense.
bool read_settings(char** environment, Settings& settings, const char*& wrong) noexcept;

}  // namespace pagetrap::preload
