#include "checkpoint/process/proc_files.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <memory>

#include "checkpoint/image/stored_image.hpp"
#include "sys/fd.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

std::string proc_path(pid_t process, const std::string& name) {
  return "/proc/" + std::to_string(process) + "/" + name;
}

Result<std::string> read_whole(const std::string& path) {
  const sys::Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return Error{"open a file of /proc", errno};
  std::string text;
  std::size_t filled = 0;
  for (;;) {
    if (text.size() - filled < 4096) text.resize(std::max<std::size_t>(text.size() * 2, 16384));
    const ssize_t got = ::read(file.get(), text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error{"read a file of /proc", errno};
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  text.resize(filled);
  return text;
}

std::string read_link(const std::string& path) {
  std::array<char, 4096> target{};
  const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  return length <= 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(length));
}

Result<std::vector<int>> numbers_in(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(path.c_str()), &::closedir);
  if (entries == nullptr) return Error{"open a directory of /proc", errno};
  std::vector<int> numbers;
  for (;;) {
    errno = 0;
    const dirent* const entry = ::readdir(entries.get());
    if (entry == nullptr) break;
    const std::string name = entry->d_name;
    int number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc{} && end == name.data() + name.size()) numbers.push_back(number);
  }
  if (errno != 0) return Error{"read a directory of /proc", errno};
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

Fields::Fields(const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    std::string words = begin == std::string::npos ? std::string() : line.substr(begin);
    first_.emplace(line.substr(0, colon), words);
    every_.emplace_back(line.substr(0, colon), std::move(words));
  }
}

std::string Fields::word(const std::string& key) const {
  const auto found = first_.find(key);
  return found == first_.end() ? std::string() : found->second;
}

std::uint64_t Fields::number(const std::string& key, int base) const {
  return std::strtoull(word(key).c_str(), nullptr, base);
}

std::vector<std::string> Fields::all(const std::string& key) const {
  std::vector<std::string> found;
  for (const auto& [name, words] : every_)
    if (name == key) found.push_back(words);
  return found;
}

std::vector<MapLine> parse_maps(const std::string& text) {
  std::vector<MapLine> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const char* next = text.c_str() + at;
    char* after = nullptr;
    MapLine line;
    line.start = std::strtoull(next, &after, 16);
    line.end = std::strtoull(after + 1, &after, 16);
    next = after + 1;
    if (next[0] == 'r') line.protection |= PROT_READ;
    if (next[1] == 'w') line.protection |= PROT_WRITE;
    if (next[2] == 'x') line.protection |= PROT_EXEC;
    line.shared = next[3] == 's';
    line.offset = std::strtoull(next + 4, &after, 16);
    const auto major = static_cast<unsigned>(std::strtoul(after, &after, 16));
    const auto minor = static_cast<unsigned>(std::strtoul(after + 1, &after, 16));
    line.device = gnu_dev_makedev(major, minor);
    line.inode = std::strtoull(after, &after, 10);
    while (*after == ' ') ++after;
    line.name = text.substr(static_cast<std::size_t>(after - text.c_str()),
                            end - static_cast<std::size_t>(after - text.c_str()));
    lines.push_back(std::move(line));
    at = end + 1;
  }
  return lines;
}

bool has_no_file_for_good(const MapLine& line) {
  return line.name.ends_with(" (deleted)") ||
         (line.name.ends_with(".ckpt") && peek_id(AT_FDCWD, line.name.c_str()).has_value());
}

std::vector<std::uint64_t> parse_stat(const std::string& text) {
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos || name_end + 4 > text.size()) return {};
  std::vector<std::uint64_t> numbers{0, 0, 0, static_cast<std::uint64_t>(text[name_end + 2])};
  const char* next = text.c_str() + name_end + 3;
  for (char* after = nullptr;; next = after) {
    const std::uint64_t number = *next == ' ' && next[1] == '-'
                                     ? static_cast<std::uint64_t>(std::strtoll(next, &after, 10))
                                     : std::strtoull(next, &after, 10);
    if (after == next) return numbers;
    numbers.push_back(number);
  }
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
