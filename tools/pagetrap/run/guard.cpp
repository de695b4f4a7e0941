// pagetrap run --guard: overflows and uses after free. docs/design/guard.md.
#include <cstdlib>
#include <filesystem>
#include <string>

#include "launch.hpp"

namespace pagetrap::tool {

using namespace launch;

namespace {

constexpr const char* kShim = "libpagetrap-guard.so";

// Programs with allocators of their own hide their objects from malloc; these can be told not to.
constexpr struct {
  const char* name;
  const char* value;
} kAllocators[] = {
    {"PYTHONMALLOC", "malloc"},
    {"G_SLICE", "always-malloc"},
    {"GLIBCXX_FORCE_NEW", "1"},
};

/// The shim writes from wherever the program has gone.
std::string absolute(const std::string& file) { return std::filesystem::absolute(file).string(); }

}  // namespace

int run_guard(const RunRequest& request) {
  const GuardRequest& guard = request.guard;
  const std::string shim = find_shim(kShim);
  if (shim.empty())
    return unable(std::string("run: ") + kShim + " is not beside the command, or cannot be read",
                  "It is built on x86-64 with the tools: cmake -DPAGETRAP_TOOLS=ON.");
  set("PAGETRAP_GUARD", guard.strength);
  set("PAGETRAP_GUARD_SYMBOLS", guard.symbols ? own_file() : std::string());
  if (!guard.side.empty()) set("PAGETRAP_GUARD_SIDE", guard.side);
  if (!guard.mechanism.empty()) set("PAGETRAP_GUARD_MECHANISM", guard.mechanism);
  if (!guard.revoke.empty()) set("PAGETRAP_GUARD_REVOKE", guard.revoke);
  if (!guard.hot.empty()) {
    const auto bytes = parse_size(guard.hot);
    if (!bytes || *bytes == 0) return usage("run: --guard-hot must be a size, as 64M");
    set("PAGETRAP_GUARD_HOT", std::to_string(*bytes));
  }
  struct Number {
    const char* option;
    const char* variable;
    const std::string& text;
  };
  for (const Number& number :
       {Number{"--guard-rate", "PAGETRAP_GUARD_RATE", guard.rate},
        Number{"--guard-align", "PAGETRAP_GUARD_ALIGN", guard.align},
        Number{"--guard-reports", "PAGETRAP_GUARD_REPORTS", guard.most_reports},
        Number{"--guard-exit-code", "PAGETRAP_GUARD_EXIT", guard.exit_code}}) {
    if (number.text.empty()) continue;
    const auto value = parse_number(number.text);
    if (!value) return usage(std::string("run: ") + number.option + " must be a number");
    set(number.variable, number.text);
  }
  if (!guard.report.empty()) set("PAGETRAP_GUARD_REPORT", absolute(guard.report));
  if (!guard.json.empty()) set("PAGETRAP_GUARD_JSON", absolute(guard.json));
  if (!guard.debugger.empty()) set("PAGETRAP_GUARD_DEBUGGER", guard.debugger);
  if (guard.go_on) set("PAGETRAP_GUARD_CONTINUE", "1");
  if (guard.core) set("PAGETRAP_GUARD_CORE", "1");
  if (guard.statistics) set("PAGETRAP_GUARD_STATISTICS", "1");
  if (guard.any_function) set("PAGETRAP_GUARD_FAMILIES", "0");
  if (!guard.keep_allocators && guard.strength != "sample")
    for (const auto& [name, value] : kAllocators) ::setenv(name, value, 0);
  return become(request, shim);
}

}  // namespace pagetrap::tool
