// pagetrap run: an unmodified program with a power. The shim is loaded in front of it, and told
// what to do by environment variables; then this process becomes the program.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <pagetrap/core/units.hpp>
#include <pagetrap/vm/backend.hpp>

#include "../commands.hpp"

namespace pagetrap::tool {
namespace {

namespace fs = std::filesystem;

constexpr int kCannotExecute = 126;  // as shells do
constexpr int kNotFound = 127;
constexpr const char* kShim = "libpagetrap-memory.so";
constexpr std::size_t kLeastBudget = 1_MiB;

/// As "64M". Empty: it makes no sense.
std::optional<std::size_t> parse_size(const std::string& text) {
  std::size_t digits = 0;
  std::size_t number = 0;
  for (; digits < text.size() && std::isdigit(static_cast<unsigned char>(text[digits])) != 0;
       ++digits) {
    if (number > (std::size_t{1} << 45)) return std::nullopt;
    number = number * 10 + static_cast<std::size_t>(text[digits] - '0');
  }
  if (digits == 0) return std::nullopt;
  std::string unit = text.substr(digits);
  if (unit.size() > 1 && unit.ends_with("B")) unit.pop_back();
  if (unit.size() > 1 && unit.ends_with("i")) unit.pop_back();
  static const std::string kUnits = "KMGT";
  if (unit.empty()) return number;
  const auto power =
      kUnits.find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit[0]))));
  if (unit.size() != 1 || power == std::string::npos) return std::nullopt;
  const std::size_t shift = (power + 1) * 10;
  if (number > (std::size_t{1} << 46) >> shift) return std::nullopt;
  return number << shift;
}

std::optional<int> parse_signal(std::string name) {
  if (name == "none") return 0;
  if (name.starts_with("SIG")) name.erase(0, 3);
  for (int number = 1; number < NSIG; ++number) {
    const char* const known = ::sigabbrev_np(number);
    if ((known != nullptr && name == known) || name == std::to_string(number)) return number;
  }
  return std::nullopt;
}

/// Beside the command, in the build or installed. Empty: nowhere.
std::string find_shim() {
  std::error_code error;
  const fs::path command = fs::read_symlink("/proc/self/exe", error);
  if (error) return {};
  const fs::path folder = command.parent_path();
  for (const char* const place :
       {"preload", "../lib/pagetrap", "../" PAGETRAP_LIBDIR "/pagetrap"}) {
    const fs::path shim = (folder / place / kShim).lexically_normal();
    if (::access(shim.c_str(), R_OK) == 0) return shim.string();
  }
  return {};
}

int usage(const std::string& words) {
  std::fprintf(stderr, "pagetrap: %s\n`pagetrap run --help` tells more.\n", words.c_str());
  return kUsage;
}

int unable(const std::string& words, const std::string& remedy) {
  std::fprintf(stderr, "pagetrap: %s\n%s\n", words.c_str(), remedy.c_str());
  return kUnable;
}

void set(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }

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

int run(const RunRequest& request) {
  if (request.memory.empty()) return usage("run: which power? There is --memory BYTES[=total]");
  std::string size = request.memory;
  const bool total = size.ends_with("=total");
  if (total) size.erase(size.size() - std::strlen("=total"));
  const auto budget = parse_size(size);
  if (!budget)
    return usage("run: --memory " + request.memory + " is no size; such are 64M, 1G, 1G=total");
  if (*budget < kLeastBudget) return usage("run: --memory must be at least 1M");
  const auto signal = parse_signal(request.report_signal);
  if (!signal) return usage("run: there is no signal " + request.report_signal);
  if (request.program.empty())
    return usage("run: the program is missing: run --memory 1G -- PROGRAM ...");

  if (const std::string missing = what_is_missing(request.delivery); !missing.empty())
    return unable("run: a memory budget cannot be kept here: " + missing,
                  "`pagetrap doctor` tells what this kernel and this user may do.");
  const std::string shim = find_shim();
  if (shim.empty())
    return unable(
        std::string("run: ") + kShim + " is not beside the command, or cannot be read",
        "It is built where mimalloc is: apt-get install libmimalloc-dev, and build again.");

  set("PAGETRAP_MEMORY", std::to_string(*budget) + (total ? "=total" : ""));
  set("PAGETRAP_MEMORY_DELIVERY", request.delivery);
  set("PAGETRAP_MEMORY_SIGNAL", std::to_string(*signal));
  if (!request.report.empty()) set("PAGETRAP_MEMORY_REPORT", request.report);
  const char* const others = std::getenv("LD_PRELOAD");
  set("LD_PRELOAD", others != nullptr && *others != '\0' ? shim + ":" + others : shim);

  std::vector<char*> words;
  for (const std::string& word : request.program) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  ::execvp(words[0], words.data());
  const int error = errno;
  std::fprintf(stderr, "pagetrap: run: %s: %s\n", words[0], std::strerror(error));
  return error == ENOENT ? kNotFound : kCannotExecute;
}

}  // namespace pagetrap::tool
