// pagetrap run --memory: a budget. docs/design/memory-shim.md.
#include <csignal>
#include <cstring>
#include <optional>
#include <string>

#include <pagetrap/core/units.hpp>
#include <pagetrap/vm/backend.hpp>

#include "launch.hpp"

namespace pagetrap::tool {

using namespace launch;

namespace {

constexpr const char* kShim = "libpagetrap-memory.so";
constexpr std::size_t kLeastBudget = 1_MiB;

std::optional<int> parse_signal(std::string name) {
  if (name == "none") return 0;
  if (name.starts_with("SIG")) name.erase(0, 3);
  for (int number = 1; number < NSIG; ++number) {
    const char* const known = ::sigabbrev_np(number);
    if ((known != nullptr && name == known) || name == std::to_string(number)) return number;
  }
  return std::nullopt;
}

/// Empty: the delivery can be had here.
std::string what_is_missing(const std::string& delivery) {
  const bool by_threads = capabilities(BackendId::uffd_thread, Backing::anonymous).kernel_accesses;
  const bool by_signals = capabilities(BackendId::uffd_inline, Backing::anonymous).per_page;
  if (delivery == "threads" && !by_threads)
    return "faults inside system calls cannot be had: root, or vm.unprivileged_userfaultfd=1, or "
           "access to /dev/userfaultfd would do";
  if (!by_threads && !by_signals)
    return "the kernel, or a filter for system calls, refuses userfaultfd(2)";
  if (delivery == "signals" && !by_signals) return "the kernel refuses userfaultfd with SIGBUS";
  return {};
}

}  // namespace

int run_memory(const RunRequest& request) {
  std::string size = request.memory;
  const bool total = size.ends_with("=total");
  if (total) size.erase(size.size() - std::strlen("=total"));
  const auto budget = parse_size(size);
  if (!budget)
    return usage("run: --memory " + request.memory + " is no size; such are 64M, 1G, 1G=total");
  if (*budget < kLeastBudget) return usage("run: --memory must be at least 1M");
  const auto signal = parse_signal(request.report_signal);
  if (!signal) return usage("run: there is no signal " + request.report_signal);
  if (const std::string missing = what_is_missing(request.delivery); !missing.empty())
    return unable("run: a memory budget cannot be kept here: " + missing,
                  "`pagetrap doctor` tells what this kernel and this user may do.");
  const std::string shim = find_shim(kShim);
  if (shim.empty())
    return unable(
        std::string("run: ") + kShim + " is not beside the command, or cannot be read",
        "It is built where mimalloc is: apt-get install libmimalloc-dev, and build again.");

  set("PAGETRAP_MEMORY", std::to_string(*budget) + (total ? "=total" : ""));
  set("PAGETRAP_MEMORY_DELIVERY", request.delivery);
  set("PAGETRAP_MEMORY_SIGNAL", std::to_string(*signal));
  if (!request.report.empty()) set("PAGETRAP_MEMORY_REPORT", request.report);
  return become(request, shim);
}

}  // namespace pagetrap::tool
