#include "compress/text.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "harness/text_files.hpp"

namespace pagetrap::bench {

std::vector<std::string> text_lines(std::size_t wanted_bytes) {
  std::vector<std::filesystem::path> files = text_files();
  std::mt19937_64 random(1);
  std::shuffle(files.begin(), files.end(), random);
  std::vector<std::string> found;
  std::size_t bytes = 0;
  for (const std::filesystem::path& path : files) {
    std::ifstream file(path, std::ios::binary);
    std::string line;
    // A little of each, so that no single large file rules.
    for (unsigned i = 0; i < 2000 && std::getline(file, line); ++i) {
      if (line.size() < 8) continue;
      if (line.size() > 300) line.resize(300);
      bytes += line.size();
      found.push_back(line);
    }
    if (bytes >= wanted_bytes) break;
  }
  return found;
}

std::string json_value(const std::vector<std::string>& text, std::uint64_t id,
                       std::mt19937_64& random) {
  const auto word = [&] {
    const std::string& line = text[random() % text.size()];
    std::string letters;
    for (const char c : line)
      if ((c >= 'a' && c <= 'z') || c == '-') letters += c;
    return letters.substr(0, 4 + random() % 12);
  };
  std::string value =
      "{\"id\":" + std::to_string(id) + ",\"user\":\"" + word() + "\",\"email\":\"" + word() +
      "@example.org\",\"created\":\"2025-" + std::to_string(1 + random() % 12) + "-" +
      std::to_string(1 + random() % 28) + "T" + std::to_string(random() % 24) + ":" +
      std::to_string(random() % 60) +
      ":00Z\",\"score\":" + std::to_string(static_cast<double>(random() % 100'000) / 997) +
      ",\"active\":" + (random() % 2 == 0 ? "true" : "false") + ",\"tags\":[\"" + word() + "\",\"" +
      word() + "\"],\"bio\":\"";
  for (unsigned i = 0; i < 1 + random() % 6; ++i)
    for (const char c : text[random() % text.size()])
      value += c == '"' || c == '\\' || c == '\t' ? ' ' : c;
  return value + "\"}";
}

}  // namespace pagetrap::bench
