#include "checkpoint/process/memory_cut.hpp"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>

#include <pagetrap/core/units.hpp>

#include "checkpoint/image/crew.hpp"
#include "checkpoint/process/proc_files.hpp"
#include "checkpoint/process/tracee.hpp"
#include "sys/fd.hpp"
#include "sys/pagemap.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

// SOURCE Documentation/admin-guide/mm/pagemap.rst
constexpr std::uint64_t kThere = std::uint64_t{3} << 62;  // present or swapped
constexpr std::uint64_t kSwapped = std::uint64_t{1} << 62;
constexpr std::uint64_t kOfFile = std::uint64_t{1} << 61;

constexpr std::uint64_t kMarked = std::uint64_t{1} << 57;  // by tracking

void append(Runs& runs, std::uint64_t page) {
  if (!runs.empty() && runs.back().end == page) {
    runs.back().end += page_size();
  } else {
    runs.push_back({page, page + page_size()});
  }
}

// Of private mappings of files: what was written to, or may have been.
Result<Done> pages_not_of_file(int pagemap, const Run& range, OwnPages& out) {
  std::array<std::uint64_t, 4096> entries;
  for (std::uint64_t at = range.start; at < range.end;) {
    const std::uint64_t count =
        std::min<std::uint64_t>(entries.size(), (range.end - at) >> page_shift());
    const ssize_t got = ::pread(pagemap, entries.data(), count * sizeof entries[0],
                                static_cast<off_t>((at >> page_shift()) * sizeof entries[0]));
    if (got <= 0) return Error{"read /proc/PID/pagemap", got < 0 ? errno : EIO};
    const auto read = static_cast<std::uint64_t>(got) / sizeof entries[0];
    for (std::uint64_t i = 0; i < read; ++i) {
      const std::uint64_t entry = entries[i];
      if ((entry & kThere) == 0 || (entry & kOfFile) != 0) continue;
      const bool is_marked = (entry & kSwapped) != 0 && (entry & kMarked) != 0;
      append(is_marked ? out.doubtful : out.own, at + (i << page_shift()));
    }
    at += read << page_shift();
  }
  return Done{};
}

bool is_private(const Mapping& mapping) {
  return mapping.kind == MappingKind::anonymous || mapping.kind == MappingKind::stack ||
         mapping.kind == MappingKind::file || mapping.kind == MappingKind::file_contents;
}

}  // namespace

Runs private_runs(const std::vector<Mapping>& mappings) {
  Runs runs;
  for (const Mapping& mapping : mappings)
    if (is_private(mapping)) runs.push_back({mapping.start, mapping.end});
  return tidy(std::move(runs));
}

Runs file_runs(const std::vector<Mapping>& mappings) {
  Runs runs;
  for (const Mapping& mapping : mappings)
    if (mapping.kind == MappingKind::file) runs.push_back({mapping.start, mapping.end});
  return tidy(std::move(runs));
}

Result<OwnPages> own_pages(pid_t process, const std::vector<Mapping>& mappings, const Runs& before,
                           const Runs& within) {
  const sys::Descriptor pagemap(
      ::open(proc_path(process, "pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) return Error{"open /proc/PID/pagemap", errno};
  OwnPages found;
  for (const Run& files : file_runs(mappings))  // those of one file lie side by side
    if (auto read = pages_not_of_file(pagemap.get(), files, found); !read) return read.error();
  found.doubtful = intersect(found.doubtful, before);
  Runs anonymous;
  for (const Mapping& mapping : mappings) {
    if (mapping.kind == MappingKind::file_contents)
      found.own.push_back({mapping.start, mapping.end});
    if (mapping.kind == MappingKind::anonymous || mapping.kind == MappingKind::stack)
      anonymous.push_back({mapping.start, mapping.end});
  }
  for (const Run& run : intersect(tidy(std::move(anonymous)), within)) {
    std::vector<PageRange> present;
    const PageRange pages{reinterpret_cast<std::byte*>(run.start), pages_for(run.end - run.start)};
    if (auto read = sys::scan_contents(pagemap.get(), pages, present); !read) return read.error();
    for (const PageRange& part : present)
      found.own.push_back({reinterpret_cast<std::uint64_t>(part.base),
                           reinterpret_cast<std::uint64_t>(part.end())});
  }
  found.own.insert(found.own.end(), found.doubtful.begin(), found.doubtful.end());
  found.own = tidy(std::move(found.own));
  return found;
}

Result<Runs> blocks_without_table(pid_t process, const Runs& known) {
  constexpr std::uint64_t kBlock = std::uint64_t{2} << 20;  // of a page table
  const sys::Descriptor pagemap(
      ::open(proc_path(process, "pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) return Error{"open /proc/PID/pagemap", errno};
  Runs blocks;
  std::uint64_t next = 0;  // the first block that was not asked for
  for (const Run& run : known) {
    for (std::uint64_t page = std::max(run.start, next); page < run.end; page = next) {
      std::uint64_t entry = 0;
      if (::pread(pagemap.get(), &entry, sizeof entry,
                  static_cast<off_t>((page >> page_shift()) * sizeof entry)) != sizeof entry)
        return Error{"read /proc/PID/pagemap", errno};
      const std::uint64_t block = page / kBlock * kBlock;
      if ((entry & kThere) == 0) blocks.push_back({block, block + kBlock});
      next = block + kBlock;
    }
  }
  return tidy(std::move(blocks));
}

Result<Done> read_any_memory(pid_t process, std::uint64_t address, std::span<std::byte> out) {
  const auto fast = read_memory(process, address, out);
  if (fast || fast.error().number != EFAULT) return fast;
  // Memory that the process itself may not read.
  const sys::Descriptor memory(::open(proc_path(process, "mem").c_str(), O_RDONLY | O_CLOEXEC));
  if (!memory.valid()) return Error{"open /proc/PID/mem", errno};
  while (!out.empty()) {
    const ssize_t got = ::pread(memory.get(), out.data(), out.size(), static_cast<off_t>(address));
    if (got < 0 && errno == EIO) {
      // Beyond the end of a file that is mapped: there is nothing that could be saved.
      std::memset(out.data(), 0, std::min(out.size(), page_size()));
      const std::size_t page = std::min(out.size(), page_size());
      out = out.subspan(page);
      address += page;
      continue;
    }
    if (got <= 0) return Error{"read /proc/PID/mem", got < 0 ? errno : ESRCH};
    out = out.subspan(static_cast<std::size_t>(got));
    address += static_cast<std::uint64_t>(got);
  }
  return Done{};
}

namespace {

// Many runs with few system calls. Errors  EFAULT: a page of them cannot be read so.
Result<Done> read_runs(pid_t process, std::span<const Run> runs, std::span<std::byte> out) {
  std::array<iovec, 512> there;  // of IOV_MAX 1024
  while (!runs.empty()) {
    const std::size_t count = std::min(there.size(), runs.size());
    std::size_t length = 0;
    for (std::size_t i = 0; i < count; ++i) {
      there[i] = {reinterpret_cast<void*>(runs[i].start), runs[i].end - runs[i].start};
      length += there[i].iov_len;
    }
    const iovec here{out.data(), length};
    const ssize_t got = ::process_vm_readv(process, &here, 1, there.data(), count, 0);
    if (got < 0) return Error{"process_vm_readv", errno};
    if (static_cast<std::size_t>(got) != length) return Error{"process_vm_readv", EFAULT};
    out = out.subspan(length);
    runs = runs.subspan(count);
  }
  return Done{};
}

// The same by all processors, which have nothing else to do while the process stands still.
Result<Done> read_all(pid_t process, const Runs& runs, std::span<std::byte> out) {
  constexpr std::uint64_t kWorthThreads = std::uint64_t{2} << 20;
  constexpr std::uint64_t kTask = std::uint64_t{512} << 10;
  if (out.size() < kWorthThreads) return read_runs(process, runs, out);
  struct Task {
    Runs runs;
    std::size_t place = 0;
    std::size_t length = 0;
  };
  std::vector<Task> tasks;
  std::size_t place = 0;
  for (const Run& run : runs) {
    for (std::uint64_t at = run.start; at < run.end;) {
      if (tasks.empty() || tasks.back().length >= kTask) tasks.push_back({{}, place, 0});
      const std::uint64_t end = std::min(run.end, at + (kTask - tasks.back().length));
      tasks.back().runs.push_back({at, end});
      tasks.back().length += end - at;
      place += end - at;
      at = end;
    }
  }
  const auto one = [&](std::uint64_t i) -> Result<std::uint64_t> {
    const Task& task = tasks[i];
    auto read = read_runs(process, task.runs, out.subspan(task.place, task.length));
    if (!read) return read.error();
    return std::uint64_t{task.length};
  };
  return for_each_task(tasks.size(), one, {}, out.size(), 0);
}

}  // namespace

Result<Done> CopiedPages::add(pid_t process, const Runs& runs) try {
  std::size_t place = used_;
  used_ += size_bytes(runs);
  if (bytes_.size() < used_) bytes_.resize(used_);
  auto read = read_all(process, runs, std::span(bytes_).first(used_).subspan(place));
  if (!read && read.error().number != EFAULT) return read;
  for (const Run& run : runs) {
    const std::size_t length = run.end - run.start;
    if (!read)
      if (auto one = read_any_memory(process, run.start, std::span(bytes_).subspan(place, length));
          !one)
        return one;
    runs_.push_back(run);
    places_.push_back(place);
    place += length;
  }
  return Done{};
} catch (const std::bad_alloc&) {
  return Error{"a cut", ENOMEM, {}, "no memory for pages of the process"};
}

Result<Done> CopiedPages::make_room(std::uint64_t bytes) try {
  if (bytes_.size() < bytes) bytes_.resize(bytes);
  return Done{};
} catch (const std::bad_alloc&) {
  return Error{"a cut", ENOMEM, {}, "no memory for pages of the process"};
}

CopiedPages::Stretch CopiedPages::read(std::uint64_t start, std::span<std::byte> out) const {
  const auto after =
      std::upper_bound(runs_.begin(), runs_.end(), start,
                       [](std::uint64_t address, const Run& run) { return address < run.start; });
  if (after != runs_.begin() && start < (after - 1)->end) {
    const auto index = static_cast<std::size_t>(after - runs_.begin()) - 1;
    const std::size_t length = std::min<std::uint64_t>(out.size(), runs_[index].end - start);
    std::memcpy(out.data(), bytes_.data() + places_[index] + (start - runs_[index].start), length);
    return {true, length};
  }
  const std::uint64_t gap = after == runs_.end() ? out.size() : after->start - start;
  return {false, std::min<std::uint64_t>(out.size(), gap)};
}

Result<Done> copy_ahead(pid_t process, const std::vector<MapLine>& lines, const Runs& written,
                        const Runs& before, CopiedPages& out) {
  std::vector<Mapping> mappings;
  for (const MapLine& line : lines) {
    if (line.shared || line.name.starts_with("[v")) continue;
    Mapping mapping;
    mapping.start = line.start;
    mapping.end = line.end;
    if (line.inode != 0) mapping.kind = MappingKind::file;
    if (has_no_file_for_good(line)) mapping.kind = MappingKind::file_contents;
    mappings.push_back(std::move(mapping));
  }
  const auto own = own_pages(process, mappings, before, written);
  if (!own) return own.error();
  const auto copied = out.add(process, intersect(own->own, written));
  if (copied) return copied;
  out.clear();
  // The process goes on, and mappings come and go.
  const int error = copied.error().number;
  return error == EFAULT || error == EIO || error == ENOMEM ? Result<Done>(Done{}) : copied;
}

// A stretch that is wanted may lie half in a mapping that no fork takes along.
Result<Done> MemoryCut::read(std::uint64_t start, std::span<std::byte> out) const {
  while (!out.empty()) {
    auto [here, length] = copied.read(start, out);
    if (!here && copy != 0) {
      if (auto read = read_any_memory(copy, start, out.first(length)); !read) return read;
    } else if (!here) {
      const CopiedPages::Stretch earlier = ahead.read(start, out.first(length));
      if (!earlier.here) return Error{"a cut", EINVAL, {}, "a page is missing in it"};
      length = earlier.length;
    }
    out = out.subspan(length);
    start += length;
  }
  return Done{};
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
