#include "checkpoint/process/same_machine.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <sstream>

#include "checkpoint/process/machine.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

std::string hex(std::uint64_t value) {
  std::ostringstream words;
  words << "0x" << std::hex << value;
  return words.str();
}

// A file that is only read must be what it was. One that was written to may have grown since.
void compare(const FileIdentity& saved, const std::string& who, bool written, Refusals& refusals) {
  const auto now = identify(saved.path, saved.path);
  if (!now) {
    refusals.add(who + ": file " + saved.path + ": " + std::strerror(now.error().number));
  } else if ((now->mode & S_IFMT) != (saved.mode & S_IFMT)) {
    refusals.add(who + ": " + saved.path + " is of another kind now");
  } else if (written && now->size < saved.size) {
    refusals.add(who + ": file " + saved.path + " is shorter than it was");
  } else if (!written && S_ISREG(saved.mode) &&
             (now->size != saved.size || now->modified_ns != saved.modified_ns)) {
    refusals.add(who + ": file " + saved.path + " has changed since");
  }
}

}  // namespace

Result<Done> look_for_differences(const Record& record, bool any_files, Refusals& refusals) {
  const auto xfeatures = extended_features();
  if (!xfeatures) return xfeatures.error();
  if (xfeatures->features != record.xfeatures || xfeatures->bytes != record.xsave_bytes)
    refusals.add("the processor: it saves registers " + hex(xfeatures->features) +
                 " (XCR0), the image has " + hex(record.xfeatures));
  const auto auxiliary = read_whole("/proc/self/auxv");
  if (!auxiliary) return auxiliary.error();
  const auto hardware = hardware_in(*auxiliary);
  if ((record.hardware[0] & ~hardware[0]) != 0 || (record.hardware[1] & ~hardware[1]) != 0)
    refusals.add("the processor: it lacks features that the program was told of (AT_HWCAP)");
  if (record.user != ::getuid() || record.user_group != ::getgid())
    refusals.add("the process was of user " + std::to_string(record.user) + " and group " +
                 std::to_string(record.user_group));
  if (any_files) return Done{};
  std::set<std::string> seen;
  for (const Mapping& mapping : record.mappings)
    if ((mapping.kind == MappingKind::file || mapping.kind == MappingKind::shared_file) &&
        seen.insert(mapping.file.path).second)
      compare(mapping.file, "mapping " + hex(mapping.start), false, refusals);
  // Through which descriptor it writes does not matter.
  std::set<std::string> writes;
  for (const OpenFile& file : record.files)
    if ((file.flags & O_ACCMODE) != O_RDONLY) writes.insert(file.file.path);
  for (const OpenFile& file : record.files) {
    const bool written = writes.contains(file.file.path) || (file.flags & O_PATH) != 0;
    const std::string who = "fd " + std::to_string(file.descriptor);
    if (file.kind == FileKind::regular) compare(file.file, who, written, refusals);
    if (file.kind == FileKind::directory) compare(file.file, who, true, refusals);
  }
  return Done{};
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
