#include "launch.hpp"

#include <unistd.h>

#include <array>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

namespace pagetrap::tool::launch {
namespace {

namespace fs = std::filesystem;

constexpr int kCannotExecute = 126;  // as shells do
constexpr int kNotFound = 127;

}  // namespace

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

std::optional<unsigned> parse_number(const std::string& text) {
  if (text.empty() || text.size() > 9) return std::nullopt;
  for (const char c : text)
    if (std::isdigit(static_cast<unsigned char>(c)) == 0) return std::nullopt;
  return static_cast<unsigned>(std::stoul(text));
}

std::string own_file() {
  std::error_code error;
  const fs::path command = fs::read_symlink("/proc/self/exe", error);
  return error ? std::string() : command.string();
}

std::string find_shim(const char* name) {
  const fs::path folder = fs::path(own_file()).parent_path();
  for (const char* const place :
       {"preload", "../lib/pagetrap", "../" PAGETRAP_LIBDIR "/pagetrap"}) {
    const fs::path shim = (folder / place / name).lexically_normal();
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

int become(const RunRequest& request, const std::string& shim) {
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

}  // namespace pagetrap::tool::launch
