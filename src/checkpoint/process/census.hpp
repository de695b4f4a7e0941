// What a stopped process consists of, found out from outside: /proc, ptrace(2), pidfd_getfd(2).
// Things that no image can have are noted as refusals, a line each, and nothing is changed.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <pagetrap/core/result.hpp>

#include "checkpoint/process/proc_files.hpp"
#include "checkpoint/process/record.hpp"
#include "checkpoint/process/tracee.hpp"
#include "sys/fd.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// Objects that stand in the way, by name.
class Refusals {
 public:
  void add(std::string line) { lines_.push_back(std::move(line)); }
  [[nodiscard]] bool empty() const noexcept { return lines_.empty(); }
  [[nodiscard]] const std::vector<std::string>& lines() const noexcept { return lines_; }

 private:
  std::vector<std::string> lines_;
};

/// Bytes of an Object, as they were at the cut.
struct Contents {
  std::uint64_t offset = 0;  // in the object
  std::vector<std::byte> bytes;
};
using ObjectContents = std::vector<std::vector<Contents>>;  // by object

/// What smaps tells of mappings and maps does not; by start. Slow: it walks all page tables, so it
/// is asked for before the process is stopped.
struct MappingFlags {
  std::uint64_t end = 0;
  std::uint64_t advice = 0;  // as in Mapping
  bool huge_pages = false;   // hugetlbfs
  bool grows = false;        // down
  bool io = false;           // a device's
  bool to_come = false;      // pages that are absent are somebody's to bring (userfaultfd)
  int key = 0;               // protection key
};
using AllMappingFlags = std::map<std::uint64_t, MappingFlags>;
Result<AllMappingFlags> mapping_flags(pid_t process);

/// What files were that a process has mapped, by path: asked for before it is stopped.
class MappedFiles {
 public:
  void look_ahead(const std::vector<MapLine>& lines);
  /// Of the file that `line` maps, if `path` is still its name.
  [[nodiscard]] std::optional<FileIdentity> find(const MapLine& line,
                                                 const std::string& path) const;

 private:
  std::map<std::string, FileIdentity> by_path_;
};

/// Fills record.mappings and objects. `ours`: the area of carried code, which is no part of it.
Result<Done> census_of_memory(const std::vector<MapLine>& lines, const AllMappingFlags& flags,
                              const MappedFiles& files,
                              std::pair<std::uint64_t, std::uint64_t> ours, Record& record,
                              ObjectContents& contents, Refusals& refusals);

/// Fills record.files and objects.
Result<Done> census_of_files(pid_t process, int pidfd, Record& record, ObjectContents& contents,
                             Refusals& refusals);

/// Of the record, what a process does not change, or only at its start: asked for before it is
/// stopped.
Result<Done> census_ahead(pid_t process, Record& record, Refusals& refusals);

/// Everything else of the record that is read from /proc and ptrace, but for memory and files.
Result<Done> census_of_process(StoppedProcess& stopped, Record& record, Refusals& refusals);

/// Signals that are pending: asked for when timers have been, so that none is lost in between.
void census_of_signals(StoppedProcess& stopped, Record& record);

/// Whether it ignores SIGTRAP: it would not any more after a breakpoint.
bool ignores_traps(pid_t process);

/// A descriptor of the other process, as one of ours. Errors  those of pidfd_getfd(2), 5.6.
Result<sys::Descriptor> take_descriptor(int pidfd, int number);

/// The identity of a file that is open, or mapped, under this path of /proc.
Result<FileIdentity> identify(const std::string& path_in_proc, std::string path);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
