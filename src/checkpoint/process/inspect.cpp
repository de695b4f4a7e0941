// inspect_process: a record in words.
#include <sys/mman.h>

#include <pagetrap/checkpoint/process.hpp>

#include "checkpoint/process/stored_process.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

using namespace process;

namespace {

std::string words_of(const Record& record, const OpenFile& file) {
  std::string words = std::to_string(file.descriptor) + " ";
  if (file.shares != 0)
    return words + "the same as " + std::to_string(record.files[file.shares - 1].descriptor);
  switch (file.kind) {
    case FileKind::regular:
      return words + file.file.path + ", at " + std::to_string(file.position);
    case FileKind::directory:
    case FileKind::device:
      return words + file.file.path;
    case FileKind::terminal:
      return words + "terminal";
    case FileKind::inherited:
      return words + "of whoever ran it";
    case FileKind::pipe:
      return words + "pipe, with " + std::to_string(record.objects[file.object].contents_bytes) +
             " bytes in it";
    case FileKind::event:
      return words + "eventfd at " + std::to_string(file.count);
    case FileKind::timer:
      return words + "timerfd";
    case FileKind::epoll:
      return words + "epoll of " + std::to_string(file.watches.size()) + " descriptors";
    case FileKind::signal:
      return words + "signalfd";
    case FileKind::memory:
      return words + "memfd " + record.objects[file.object].name + ", " +
             std::to_string(record.objects[file.object].size) + " bytes";
  }
  return words;
}

std::string words_of(const Record& record, const Mapping& mapping) {
  switch (mapping.kind) {
    case MappingKind::anonymous:
      return mapping.start >= record.layout[4] &&
                     mapping.end <= ((record.layout[5] + 4095) & ~4095ULL)
                 ? "heap"
                 : "";
    case MappingKind::file:
    case MappingKind::shared_file:
      return mapping.file.path;
    case MappingKind::file_contents:
      return "a file that was deleted";
    case MappingKind::shared_memory:
      return "shared " + record.objects[mapping.object].name;
    case MappingKind::stack:
      return "stack";
    case MappingKind::vdso:
    case MappingKind::vvar:
      return "the kernel's";
  }
  return {};
}

std::string protection_of(const Mapping& mapping) {
  std::string words = "---p";
  if ((mapping.protection & PROT_READ) != 0) words[0] = 'r';
  if ((mapping.protection & PROT_WRITE) != 0) words[1] = 'w';
  if ((mapping.protection & PROT_EXEC) != 0) words[2] = 'x';
  if (mapping.kind == MappingKind::shared_file || mapping.kind == MappingKind::shared_memory)
    words[3] = 's';
  return words;
}

}  // namespace

Result<ProcessInfo> inspect_process(const std::string& path) {
  const auto stored = StoredProcess::open(path);
  if (!stored) return stored.error();
  const Record& record = (*stored)->record();
  ProcessInfo info;
  info.command = record.command;
  info.id = static_cast<pid_t>(record.id);
  info.kernel = record.kernel;
  for (const Thread& thread : record.threads)
    info.threads.push_back(std::to_string(thread.id) + " " + thread.name);
  for (const OpenFile& file : record.files) info.files.push_back(words_of(record, file));
  for (const Mapping& mapping : record.mappings)
    info.memory.push_back(
        {mapping.start, mapping.end, protection_of(mapping), words_of(record, mapping)});
  info.timers = record.timers.size();
  return info;
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
