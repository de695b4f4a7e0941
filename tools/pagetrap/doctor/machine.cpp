// What can be read about the machine and the user.
#include <pwd.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>

#include <pagetrap/vm/vm.hpp>

#include "../text/screen.hpp"
#include "examination.hpp"

namespace pagetrap::tool {
namespace {

/// What stands after the colon in the first line of `path` that begins with `field`.
std::string field_of(const char* path, std::string_view field) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(':');
    if (line.starts_with(field) && colon != std::string::npos) {
      const auto begin = line.find_first_not_of(" \t", colon + 1);
      return begin == std::string::npos ? std::string() : line.substr(begin);
    }
  }
  return {};
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line.empty() ? "not there" : line;
}

/// "always [madvise] never" -> "madvise".
std::string chosen_word(const std::string& line) {
  const auto open = line.find('[');
  const auto close = line.find(']');
  return open == std::string::npos || close == std::string::npos
             ? line
             : line.substr(open + 1, close - open - 1);
}

std::string limit_text(int resource) {
  rlimit limit{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return "unknown";
  return limit.rlim_cur == RLIM_INFINITY ? "unlimited"
                                         : size_text(static_cast<double>(limit.rlim_cur));
}

}  // namespace

MachineFacts examine_machine() {
  MachineFacts facts;
  utsname system{};
  uname(&system);
  facts.kernel = std::string(system.sysname) + " " + kernel_release();
  facts.architecture = system.machine;
  facts.processor = field_of("/proc/cpuinfo", "model name");
  facts.cpus = std::thread::hardware_concurrency();
  facts.hypervisor =
      (" " + field_of("/proc/cpuinfo", "flags") + " ").find(" hypervisor ") != std::string::npos;
  struct sysinfo memory {};
  sysinfo(&memory);
  facts.memory_bytes = std::uint64_t{memory.totalram} * memory.mem_unit;
  facts.page_bytes = page_size();
  facts.max_map_count = max_map_count();
  for (const char* name : {"vm.overcommit_memory", "vm.unprivileged_userfaultfd",
                           "vm.max_map_count", "kernel.perf_event_paranoid"}) {
    std::string path = std::string("/proc/sys/") + name;
    path.replace(path.find('.'), 1, "/");
    facts.settings.push_back({name, first_line(path)});
  }
  facts.settings.push_back(
      {"transparent_hugepage",
       chosen_word(first_line("/sys/kernel/mm/transparent_hugepage/enabled"))});
  return facts;
}

UserFacts examine_user() {
  UserFacts facts;
  facts.uid = geteuid();
  const passwd* const entry = getpwuid(facts.uid);
  facts.name = entry != nullptr ? entry->pw_name : "";

  struct Known {
    unsigned bit;
    const char* name;
  };
  // Numbers: linux/capability.h.
  constexpr std::array<Known, 6> kKnown{{{14, "cap_ipc_lock"},
                                         {19, "cap_sys_ptrace"},
                                         {21, "cap_sys_admin"},
                                         {23, "cap_sys_nice"},
                                         {24, "cap_sys_resource"},
                                         {38, "cap_perfmon"}}};
  std::uint64_t effective = 0;
  std::istringstream(field_of("/proc/self/status", "CapEff")) >> std::hex >> effective;
  for (const Known& known : kKnown) {
    if ((effective >> known.bit & 1) != 0) facts.capabilities.emplace_back(known.name);
  }
  facts.limits = {{"addresses (RLIMIT_AS)", limit_text(RLIMIT_AS)},
                  {"private data (RLIMIT_DATA)", limit_text(RLIMIT_DATA)},
                  {"locked memory (RLIMIT_MEMLOCK)", limit_text(RLIMIT_MEMLOCK)},
                  {"stack (RLIMIT_STACK)", limit_text(RLIMIT_STACK)}};
  return facts;
}

}  // namespace pagetrap::tool
