#include <sys/utsname.h>

#include <cstdio>
#include <string>

#include <pagetrap/core/config.hpp>

#include "commands.hpp"

namespace pagetrap::tool {

std::string version_text() {
  constexpr int kVersion = PAGETRAP_VERSION;
  return std::to_string(kVersion / 10000) + "." + std::to_string(kVersion / 100 % 100) + "." +
         std::to_string(kVersion % 100);
}

int version() {
  utsname system{};
  uname(&system);
  std::printf("pagetrap %s\n", version_text().c_str());
  std::printf("running on %s %s %s, benchmarks %s\n", system.sysname, system.release,
              system.machine, bench_is_linked() ? "built in" : "not built in");
  return kOk;
}

}  // namespace pagetrap::tool
