#include "checkpoint/process/shared_memory.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>

#include "checkpoint/process/proc_files.hpp"
#include "sys/fd.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

// Through the memory of the process. Fills holes: of those who may not do better.
Result<Done> copy_mapped(pid_t process, const Mapping& mapping, std::vector<Contents>& contents) {
  const sys::Descriptor memory(::open(proc_path(process, "mem").c_str(), O_RDONLY | O_CLOEXEC));
  if (!memory.valid()) return Error{"open /proc/PID/mem", errno};
  Contents piece;
  piece.offset = mapping.offset;
  piece.bytes.resize(mapping.end - mapping.start);
  for (std::size_t done = 0; done < piece.bytes.size();) {
    const ssize_t got = ::pread(memory.get(), piece.bytes.data() + done, piece.bytes.size() - done,
                                static_cast<off_t>(mapping.start + done));
    if (got < 0 && errno == EIO) break;  // beyond its end
    if (got < 0) return Error{"read shared memory", errno};
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  contents.push_back(std::move(piece));
  return Done{};
}

// The file behind a mapping. For root, and CAP_CHECKPOINT_RESTORE.
sys::Descriptor open_mapped(pid_t process, const Mapping& mapping) {
  char name[64];
  std::snprintf(name, sizeof name, "map_files/%lx-%lx", static_cast<unsigned long>(mapping.start),
                static_cast<unsigned long>(mapping.end));
  return sys::Descriptor(::open(proc_path(process, name).c_str(), O_RDONLY | O_CLOEXEC));
}

}  // namespace

Result<std::vector<Contents>> copy_file(int descriptor) {
  std::vector<Contents> contents;
  for (off_t at = 0;;) {
    const off_t data = ::lseek(descriptor, at, SEEK_DATA);
    if (data < 0) return contents;
    const off_t hole = ::lseek(descriptor, data, SEEK_HOLE);
    if (hole < 0) return Error{"lseek in shared memory", errno};
    Contents piece;
    piece.offset = static_cast<std::uint64_t>(data);
    piece.bytes.resize(static_cast<std::size_t>(hole - data));
    for (std::size_t done = 0; done < piece.bytes.size();) {
      const ssize_t got = ::pread(descriptor, piece.bytes.data() + done, piece.bytes.size() - done,
                                  data + static_cast<off_t>(done));
      if (got <= 0) return Error{"read shared memory", got < 0 ? errno : EIO};
      done += static_cast<std::size_t>(got);
    }
    contents.push_back(std::move(piece));
    at = hole;
  }
}

Result<Done> copy_mapped_objects(pid_t process, Record& record, ObjectContents& contents) {
  for (std::size_t i = 0; i < record.objects.size(); ++i) {
    Object& object = record.objects[i];
    if (object.kind != ObjectKind::shared_memory) continue;
    bool whole = false;
    for (const Mapping& mapping : record.mappings) {
      if (mapping.kind != MappingKind::shared_memory || mapping.object != i || whole) continue;
      const sys::Descriptor file = open_mapped(process, mapping);
      struct stat what {};
      if (file.valid() && ::fstat(file.get(), &what) == 0) {
        auto copied = copy_file(file.get());
        if (!copied) return copied.error();
        contents[i] = std::move(*copied);
        object.size = static_cast<std::uint64_t>(what.st_size);
        whole = true;
      } else if (auto copied = copy_mapped(process, mapping, contents[i]); !copied) {
        return copied;
      }
    }
  }
  return Done{};
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
