#include "checkpoint/generations.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <set>

#include <pagetrap/checkpoint/image.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

constexpr std::string_view kEnding = ".ckpt";
constexpr std::size_t kDigits = 6;  // at least

// The number in NAME.000012.ckpt; 0 if it is no such name.
std::uint64_t number_in(std::string_view file, std::string_view name) {
  if (!file.ends_with(kEnding)) return 0;
  file.remove_suffix(kEnding.size());
  const std::size_t dot = file.rfind('.');
  if (dot == std::string_view::npos || (!name.empty() && file.substr(0, dot) != name)) return 0;
  const std::string_view digits = file.substr(dot + 1);
  if (digits.size() < kDigits) return 0;
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), number);
  return error == std::errc{} && end == digits.end() ? number : 0;
}

}  // namespace

std::string generation_path(const std::string& directory, const std::string& name,
                            std::uint64_t number) {
  std::string digits = std::to_string(number);
  if (digits.size() < kDigits) digits.insert(0, kDigits - digits.size(), '0');
  return directory + "/" + name + "." + digits + std::string(kEnding);
}

Result<std::vector<Generation>> generations(const std::string& directory, const std::string& name) {
  std::vector<Generation> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::uint64_t number = number_in(entry->path().filename().string(), name);
    if (number != 0) found.push_back({number, entry->path().string()});
  }
  if (error) return Error{"open a directory of checkpoints", error.value()};
  std::sort(found.begin(), found.end(),
            [](const Generation& a, const Generation& b) { return a.number > b.number; });
  return found;
}

Result<Done> prune(const std::string& directory, const std::string& name, unsigned keep) {
  const auto all = generations(directory, name);
  if (!all) return all.error();
  std::set<std::string> needed;
  unsigned kept = 0;
  for (const Generation& generation : *all) {
    if (kept >= keep) break;
    const auto chain = inspect_chain(generation.path);
    if (!chain) continue;  // not whole: it counts for nothing
    ++kept;
    for (const ChainMember& member : *chain) needed.insert(member.path);
  }
  // Nothing is whole: better too much than nothing.
  if (kept == 0) return Done{};
  for (const Generation& generation : *all) {
    if (needed.contains(generation.path)) continue;
    std::error_code error;
    std::filesystem::remove(generation.path, error);
    if (error) return Error{"remove an old checkpoint", error.value()};
  }
  return Done{};
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
