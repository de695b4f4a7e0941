#include "harness/machine.hpp"

#include <sched.h>
#include <unistd.h>

#include <cstddef>
#include <fstream>
#include <sstream>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/units.hpp>
#include <pagetrap/vm/features.hpp>
#include <pagetrap/vm/freeze.hpp>

namespace pagetrap::bench {

namespace {

std::string first_line(const char* path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

/// The rest of the first line that begins with `key`, after the colon.
std::string value_of(const char* path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return {};
}

double kibibytes_of(const std::string& key) {
  std::istringstream words(value_of("/proc/meminfo", key));
  double number = 0;
  words >> number;
  return number * 1024;
}

/// "always [madvise] never" -> "madvise".
std::string chosen_word(const std::string& words) {
  const std::size_t open = words.find('[');
  const std::size_t close = words.find(']');
  if (open == std::string::npos || close == std::string::npos) return words;
  return words.substr(open + 1, close - open - 1);
}

int usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

std::string entry_mitigations() {
  std::string all;
  for (const char* name : {"meltdown", "spectre_v2", "mds", "retbleed"}) {
    const std::string path = std::string("/sys/devices/system/cpu/vulnerabilities/") + name;
    const std::string state = first_line(path.c_str());
    if (state.empty()) continue;
    if (!all.empty()) all += "; ";
    all += std::string(name) + ": " + state;
  }
  return all.empty() ? "unknown" : all;
}

}  // namespace

double memory_available() { return kibibytes_of("MemAvailable"); }

Machine describe_machine() {
  Machine machine;
  machine.cpu = value_of("/proc/cpuinfo", "model name");
  machine.cpus = usable_cpus();
  machine.kernel = kernel_release();
  machine.memory_bytes = kibibytes_of("MemTotal");
  machine.memory_available_bytes = memory_available();
  machine.page_bytes = static_cast<double>(page_size());
  machine.max_map_count = static_cast<double>(max_map_count());
  machine.huge_pages = chosen_word(first_line("/sys/kernel/mm/transparent_hugepage/enabled"));
  machine.governor = first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  if (machine.governor.empty()) machine.governor = "unknown";
  machine.mitigations = entry_mitigations();
  const std::string flags = " " + value_of("/proc/cpuinfo", "flags") + " ";
  machine.hypervisor = flags.find(" hypervisor ") != std::string::npos;
  machine.protection_keys = protection_keys_available();
  machine.root = geteuid() == 0;
  machine.pagetrap = std::to_string(PAGETRAP_VERSION / 10000) + "." +
                     std::to_string(PAGETRAP_VERSION / 100 % 100) + "." +
                     std::to_string(PAGETRAP_VERSION % 100);
  return machine;
}

}  // namespace pagetrap::bench
