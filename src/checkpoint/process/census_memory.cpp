#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "checkpoint/process/census.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

constexpr const char* kDeleted = " (deleted)";

std::string hex(std::uint64_t value) {
  std::ostringstream words;
  words << "0x" << std::hex << value;
  return words.str();
}

std::uint64_t advice_in(const std::string& words) {
  constexpr struct {
    const char* flag;
    std::uint64_t bit;
  } kFlags[] = {{"hg", 1}, {"nh", 2}, {"dc", 4}, {"wf", 8}, {"dd", 16}, {"mg", 32}, {"lo", 64}};
  std::uint64_t bits = 0;
  std::istringstream flags(words);
  for (std::string flag; flags >> flag;)
    for (const auto& each : kFlags)
      if (flag == each.flag) bits |= each.bit;
  return bits;
}

bool has_flag(const std::string& words, const char* wanted) {
  std::istringstream flags(words);
  for (std::string flag; flags >> flag;)
    if (flag == wanted) return true;
  return false;
}

std::uint64_t object_of_inode(Record& record, ObjectContents& contents, std::uint64_t inode,
                              const std::string& name) {
  for (std::uint64_t i = 0; i < record.objects.size(); ++i)
    if (record.objects[i].kind == ObjectKind::shared_memory && record.objects[i].inode == inode)
      return i;
  Object object;
  object.kind = ObjectKind::shared_memory;
  object.inode = inode;
  constexpr const char* kMemfd = "/memfd:";
  object.name = name.starts_with(kMemfd) ? name.substr(std::strlen(kMemfd)) : name;
  record.objects.push_back(object);
  contents.emplace_back();
  return record.objects.size() - 1;
}

}  // namespace

Result<FileIdentity> identify(const std::string& path_in_proc, std::string path) {
  struct stat what {};
  if (::stat(path_in_proc.c_str(), &what) != 0) return Error{"stat of an open file", errno};
  FileIdentity identity;
  identity.path = std::move(path);
  identity.device = what.st_dev;
  identity.inode = what.st_ino;
  identity.size = static_cast<std::uint64_t>(what.st_size);
  identity.modified_ns = static_cast<std::uint64_t>(what.st_mtim.tv_sec) * 1'000'000'000 +
                         static_cast<std::uint64_t>(what.st_mtim.tv_nsec);
  identity.mode = what.st_mode;
  return identity;
}

Result<AllMappingFlags> mapping_flags(pid_t process) {
  const auto text = read_whole(proc_path(process, "smaps"));
  if (!text) return text.error();
  AllMappingFlags all;
  MappingFlags* last = nullptr;
  for (std::size_t at = 0; at < text->size();) {
    const std::size_t end = std::min(text->find('\n', at), text->size());
    const std::string line = text->substr(at, end - at);
    at = end + 1;
    if (line.starts_with("VmFlags:") && last != nullptr) {
      last->advice = advice_in(line.substr(8));
      last->grows = has_flag(line.substr(8), "gd");
      last->huge_pages = has_flag(line.substr(8), "ht");
      last->to_come = has_flag(line.substr(8), "um");
      last->io = has_flag(line.substr(8), "io") || has_flag(line.substr(8), "pf");
    } else if (line.starts_with("ProtectionKey:") && last != nullptr) {
      last->key = std::atoi(line.c_str() + 14);
    } else if (line.find('-') != std::string::npos && line.find('-') < 17 &&
               line.find(':') > line.find(' ')) {
      const auto mapped = parse_maps(line);
      last = &all[mapped.front().start];
      last->end = mapped.front().end;
    }
  }
  return all;
}

void MappedFiles::look_ahead(const std::vector<MapLine>& lines) {
  by_path_.clear();
  for (const MapLine& line : lines) {
    if (line.inode == 0 || line.name.empty() || by_path_.contains(line.name)) continue;
    if (const auto file = identify(line.name, line.name); file) by_path_.emplace(line.name, *file);
  }
}

std::optional<FileIdentity> MappedFiles::find(const MapLine& line, const std::string& path) const {
  if (const auto known = by_path_.find(path);
      known != by_path_.end() && known->second.inode == line.inode)
    return known->second;
  const auto now = identify(path, path);
  if (!now || now->inode != line.inode) return std::nullopt;
  return *now;
}

Result<Done> census_of_memory(const std::vector<MapLine>& lines, const AllMappingFlags& flags,
                              const MappedFiles& files,
                              std::pair<std::uint64_t, std::uint64_t> ours, Record& record,
                              ObjectContents& contents, Refusals& refusals) {
  for (const MapLine& line : lines) {
    if (line.name == "[vsyscall]") continue;
    if (line.start >= ours.first && line.end <= ours.second) continue;
    Mapping mapping;
    mapping.start = line.start;
    mapping.end = line.end;
    mapping.protection = static_cast<std::uint64_t>(line.protection);
    mapping.offset = line.offset;
    const std::string where = "mapping " + hex(line.start) + "-" + hex(line.end);
    if (const auto known = flags.find(line.start); known != flags.end()) {
      mapping.advice = known->second.advice;
      if (known->second.huge_pages) refusals.add(where + ": huge pages (hugetlbfs) " + line.name);
      // A lazy restart that has not ended yet: what is absent is not zero.
      if (known->second.to_come)
        refusals.add(where + ": pages that are still to come (userfaultfd)");
      if (known->second.key != 0) refusals.add(where + ": a protection key");
      if (known->second.io && line.name != "[vvar]" && line.name != "[vvar_vclock]")
        refusals.add(where + ": memory of a device " + line.name);
    }
    bool grows = line.name == "[stack]";
    if (const auto known = flags.find(line.start); known != flags.end())
      grows |= known->second.grows;
    if (line.name == "[vdso]") {
      mapping.kind = MappingKind::vdso;
    } else if (line.name.starts_with("[vvar")) {
      mapping.kind = MappingKind::vvar;
    } else if (grows && line.inode == 0) {
      mapping.kind = MappingKind::stack;
    } else if (line.name.starts_with("/SYSV")) {
      refusals.add(where + ": System V shared memory " + line.name);
      continue;
    } else if (line.name.starts_with("/[aio]")) {
      refusals.add(where + ": asynchronous I/O (io_setup)");
      continue;
    } else if (line.name.starts_with("anon_inode:")) {
      refusals.add(where + ": " + line.name);
      continue;
    } else if (line.inode == 0 || (!line.shared && line.name.starts_with("/dev/zero"))) {
      mapping.kind = MappingKind::anonymous;
    } else {
      const bool deleted = line.name.ends_with(kDeleted);
      const std::string path =
          deleted ? line.name.substr(0, line.name.size() - std::string(kDeleted).size())
                  : line.name;
      if (line.shared && (line.name == "/dev/zero (deleted)" || line.name.starts_with("/memfd:"))) {
        mapping.kind = MappingKind::shared_memory;
        mapping.object = object_of_inode(record, contents, line.inode, path);
        Object& object = record.objects[mapping.object];
        object.size = std::max(object.size, line.offset + (line.end - line.start));
      } else if (line.shared) {
        mapping.kind = MappingKind::shared_file;
        if (deleted) {
          refusals.add(where + ": a shared mapping of a deleted file " + path);
          continue;
        }
        if ((line.protection & PROT_WRITE) != 0)
          refusals.add(where + ": a shared, writable mapping of " + path);
      } else {
        mapping.kind = has_no_file_for_good(line) ? MappingKind::file_contents : MappingKind::file;
      }
      if (mapping.kind == MappingKind::file || mapping.kind == MappingKind::shared_file) {
        const auto file = files.find(line, path);
        if (!file) {
          // Another one has its name now.
          if (mapping.kind == MappingKind::file) {
            mapping.kind = MappingKind::file_contents;
          } else {
            refusals.add(where + ": a shared mapping of " + path + ", which is another file now");
          }
        } else {
          mapping.file = *file;
        }
      }
    }
    record.mappings.push_back(std::move(mapping));
  }
  return Done{};
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
