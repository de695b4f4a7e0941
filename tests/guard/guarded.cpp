#include "guarded.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace pagetrap::guard::test {
namespace fs = std::filesystem;

std::string cells() { return preload::test::workload(); }

Guarded run_guarded(const Words& options, const Words& words, const std::string& input,
                    unsigned seconds) {
  static int number = 0;
  const fs::path json = fs::temp_directory_path() / ("pagetrap-guard-" + std::to_string(getpid()) +
                                                     "-" + std::to_string(++number));
  Words all{preload::test::command(), "run", "--guard"};
  if (!options.empty() && options[0].starts_with("=")) all.back() += options[0];
  for (const std::string& option : options)
    if (!option.starts_with("=")) all.push_back(option);
  all.insert(all.end(), {"--guard-json", json.string(), "--"});
  all.insert(all.end(), words.begin(), words.end());
  Guarded guarded;
  guarded.ran = preload::test::run(all, {.seconds = seconds, .input = input});
  std::ifstream lines(json);
  for (std::string line; std::getline(lines, line);)
    guarded.reports.push_back(nlohmann::json::parse(line));
  fs::remove(json);
  return guarded;
}

}  // namespace pagetrap::guard::test
