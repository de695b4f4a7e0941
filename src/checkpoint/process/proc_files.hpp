// What /proc tells of a process, read and taken apart.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// "/proc/PID/NAME".
std::string proc_path(pid_t process, const std::string& name);
/// All of a file. Errors  those of open(2) and read(2).
Result<std::string> read_whole(const std::string& path);
/// A symbolic link's text; empty if there is none.
std::string read_link(const std::string& path);
/// The names in a directory that are numbers, in order.
Result<std::vector<int>> numbers_in(const std::string& path);

/// Lines "Key: words" of a file such as status or fdinfo. A key that comes again is in `all`.
class Fields {
 public:
  explicit Fields(const std::string& text);
  [[nodiscard]] std::string word(const std::string& key) const;  // empty: there is none
  [[nodiscard]] std::uint64_t number(const std::string& key, int base = 10) const;
  [[nodiscard]] bool has(const std::string& key) const { return first_.contains(key); }
  [[nodiscard]] std::vector<std::string> all(const std::string& key) const;

 private:
  std::map<std::string, std::string> first_;
  std::vector<std::pair<std::string, std::string>> every_;
};

/// A line of /proc/PID/maps.
struct MapLine {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  int protection = 0;  // PROT_
  bool shared = false;
  std::uint64_t offset = 0;
  std::uint64_t device = 0;  // as st_dev
  std::uint64_t inode = 0;
  std::string name;
  friend bool operator==(const MapLine&, const MapLine&) = default;
};
std::vector<MapLine> parse_maps(const std::string& text);

/// Whether what it maps cannot be mapped again later: a deleted file, or an image of a process,
/// which a mapped restart uses until it is deleted.
bool has_no_file_for_good(const MapLine& line);

/// The numbers of /proc/PID/stat from the third field on: index 3 is field 3. Empty: unreadable.
std::vector<std::uint64_t> parse_stat(const std::string& text);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
