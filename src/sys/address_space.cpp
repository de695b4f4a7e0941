#include "sys/address_space.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "sys/fd.hpp"

namespace pagetrap::sys {
namespace {

Result<std::string> read_maps() {
  const Descriptor file(::open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return Error{"open /proc/self/maps", errno, {}, "/proc must be mounted"};
  std::string text;
  for (;;) {
    const std::size_t before = text.size();
    text.resize(before + (std::size_t{64} << 10));
    const ssize_t got = ::read(file.get(), text.data() + before, text.size() - before);
    if (got < 0 && errno != EINTR) return Error{"read /proc/self/maps", errno};
    text.resize(before + static_cast<std::size_t>(got > 0 ? got : 0));
    if (got == 0) return text;
  }
}

// SOURCE proc_pid_maps(5): "begin-end rwxp offset device inode   name".
bool parse(const std::string& line, MappedRange& range) {
  char* at = nullptr;
  range.begin = std::strtoull(line.c_str(), &at, 16);
  if (*at != '-') return false;
  range.end = std::strtoull(at + 1, &at, 16);
  if (*at != ' ') return false;
  const std::string_view rest(at + 1);
  if (rest.size() < 4) return false;
  range.writable = rest[1] == 'w';
  range.executable = rest[2] == 'x';
  std::size_t column = 0;
  std::size_t name = 0;
  for (; column < 4; ++column) {
    name = rest.find(' ', name);
    if (name == std::string_view::npos) break;
    name = rest.find_first_not_of(' ', name);
    if (name == std::string_view::npos) break;
  }
  if (column == 4) range.name = std::string(rest.substr(name));
  return true;
}

}  // namespace

Result<std::vector<MappedRange>> mapped_ranges() {
  const auto text = read_maps();
  if (!text) return text.error();
  std::vector<MappedRange> ranges;
  for (std::size_t at = 0; at < text->size();) {
    const std::size_t end = std::min(text->find('\n', at), text->size());
    MappedRange range;
    if (parse(text->substr(at, end - at), range)) ranges.push_back(std::move(range));
    at = end + 1;
  }
  return ranges;
}

}  // namespace pagetrap::sys
