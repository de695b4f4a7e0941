// The record of a process: everything but the contents of its memory. docs/formats/process.md has
// the bytes; `fields` below is the one place that says what is in it and in which order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <pagetrap/core/result.hpp>

#include "checkpoint/process/ranges.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

inline constexpr std::uint64_t kRecordVersion = 1;
// The regions of a process's image.
inline constexpr const char* kMemoryRegion = "memory";    // base 0: page n is at address n * 4096
inline constexpr const char* kRecordRegion = "process";   // its length (u64), and the record
inline constexpr const char* kObjectsRegion = "objects";  // contents of pipes and shared memory
inline constexpr std::uint64_t kMemoryBytes = std::uint64_t{1} << 47;
inline constexpr std::uint64_t kRecordBytes = std::uint64_t{1} << 32;
inline constexpr std::uint64_t kObjectsBytes = std::uint64_t{1} << 46;

enum class MappingKind : std::uint64_t {
  anonymous,      // its contents are in the image
  file,           // private: pages that the process changed are in the image, others in the file
  file_contents,  // a private one whose file was deleted: all its pages are in the image
  shared_file,    // read only
  shared_memory,  // an Object
  stack,          // grows down
  vdso,
  vvar,  // and whatever else the kernel puts beside the vdso
};

/// How a file was, to find out whether it still is.
struct FileIdentity {
  std::string path;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
  std::uint64_t modified_ns = 0;
  std::uint64_t mode = 0;
};

struct Mapping {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint64_t protection = 0;
  MappingKind kind = MappingKind::anonymous;
  std::uint64_t offset = 0;  // in the file or object
  std::uint64_t object = 0;  // index in objects
  std::uint64_t advice = 0;  // bits: 1 hugepage, 2 nohugepage, 4 dontfork, 8 wipeonfork, 16
                             // dontdump, 32 mergeable, 64 locked
  FileIdentity file;
  Runs own;  // of a private file: the pages that are not the file's any more
};

struct Disposition {
  std::uint64_t handler = 0;
  std::uint64_t flags = 0;
  std::uint64_t restorer = 0;
  std::uint64_t mask = 0;
};

struct Thread {
  std::uint64_t id = 0;
  std::string name;
  std::vector<std::byte> registers;  // user_regs_struct
  std::vector<std::byte> extended;   // XSAVE
  std::uint64_t mask = 0;
  std::uint64_t clear_tid = 0;
  std::uint64_t robust_list = 0;
  std::uint64_t robust_bytes = 0;
  std::uint64_t rseq = 0;
  std::uint64_t rseq_bytes = 0;
  std::uint64_t rseq_signature = 0;
  std::array<std::uint64_t, 3> alternate_stack{};  // stack_t: address, flags, size
  std::vector<std::vector<std::byte>> pending;     // siginfo_t
  std::vector<std::byte> affinity;
  std::uint64_t policy = 0;
  std::uint64_t nice = 0;  // as a signed number
  std::uint64_t priority = 0;
  std::array<std::uint64_t, 3> capabilities{};  // inheritable, permitted, effective
};

enum class FileKind : std::uint64_t {
  regular,
  directory,
  device,     // one of the harmless ones
  terminal,   // whatever `restart` has
  inherited,  // a pipe, socket or file of whoever ran the program, at its 0, 1 or 2
  pipe,
  event,  // eventfd
  timer,  // timerfd
  epoll,
  signal,  // signalfd
  memory,  // memfd
};

struct Watch {  // of an epoll
  std::uint64_t descriptor = 0;
  std::uint64_t events = 0;
  std::uint64_t data = 0;
};

struct OpenFile {
  std::uint64_t descriptor = 0;
  std::uint64_t close_on_exec = 0;
  std::uint64_t flags = 0;  // of open(2)
  std::uint64_t position = 0;
  FileKind kind = FileKind::regular;
  std::uint64_t shares = 0;  // 1 + index of an earlier one with the same description; 0: none
  FileIdentity file;
  std::uint64_t inherited = 0;  // which of the runner's 0, 1, 2
  std::uint64_t object = 0;     // pipe, memory: index in objects
  std::uint64_t owner = 0;      // fcntl F_SETOWN, F_SETSIG: refused unless 0
  std::uint64_t count = 0;      // event: its counter; timer: expirations not read yet
  std::uint64_t clock = 0;      // timer; event: 1 semaphore
  std::uint64_t timer_flags = 0;
  std::array<std::uint64_t, 4> times{};  // timer: interval s, ns; left s, ns
  std::uint64_t mask = 0;                // signal
  std::vector<Watch> watches;            // epoll
  std::vector<std::byte> terminal;       // termios
};

enum class ObjectKind : std::uint64_t { pipe, shared_memory, memfd };

/// Something that several descriptors or mappings have part in.
struct Object {
  ObjectKind kind = ObjectKind::pipe;
  std::uint64_t inode = 0;
  std::string name;        // of a memfd
  std::uint64_t size = 0;  // pipe: its capacity; memory: its length
  std::uint64_t seals = 0;
  std::uint64_t contents_at = 0;  // in the region "objects"
  std::uint64_t contents_bytes = 0;
  std::uint64_t has_packets = 0;  // a pipe with O_DIRECT
  std::vector<std::uint64_t>
      packets;  // lengths of what is in it, each taken out by a read of its own
};

struct Timer {  // POSIX
  std::uint64_t id = 0;
  std::uint64_t clock = 0;
  std::uint64_t signal = 0;
  std::uint64_t value = 0;
  std::uint64_t notify = 0;
  std::uint64_t thread = 0;
  std::array<std::uint64_t, 4> times{};  // interval, left
};

struct Record {
  std::uint64_t version = kRecordVersion;
  // The machine
  std::string kernel;
  std::string command;
  std::uint64_t xfeatures = 0;  // XCR0
  std::uint64_t xsave_bytes = 0;
  std::array<std::uint64_t, 2> hardware{};  // AT_HWCAP, AT_HWCAP2
  std::vector<std::byte> vdso;
  // The process
  std::uint64_t id = 0;
  std::uint64_t group = 0;
  std::uint64_t session = 0;
  std::uint64_t user = 0;
  std::uint64_t user_group = 0;
  std::uint64_t umask = 0;
  std::uint64_t personality = 0;
  std::uint64_t no_new_privileges = 0;
  std::uint64_t timer_slack = 0;
  std::uint64_t death_signal = 0;
  std::uint64_t dumpable = 0;
  std::uint64_t subreaper = 0;
  std::uint64_t huge_pages_off = 0;
  std::string directory;  // current
  FileIdentity executable;
  std::array<std::uint64_t, 32> limits{};  // soft, hard
  std::array<std::uint64_t, 11> layout{};  // start_code ... env_end of prctl_mm_map
  std::vector<std::byte> auxiliary;        // auxv
  std::array<Disposition, 64> dispositions{};
  std::vector<std::vector<std::byte>> pending;                    // siginfo_t
  std::array<std::array<std::uint64_t, 4>, 3> interval_timers{};  // itimerval
  std::vector<Timer> timers;
  std::vector<Thread> threads;  // the first one is the process's
  std::vector<Mapping> mappings;
  std::vector<OpenFile> files;
  std::vector<Object> objects;
  // How it is saved, for a restart that goes on with it
  std::uint64_t every_ms = 0;
  std::uint64_t keep = 0;
  std::uint64_t full_every = 0;
  std::string socket;
};

std::vector<std::byte> encode(const Record& record);
/// Errors  EBADMSG: it makes no sense; ENOTSUP: of another version.
Result<Record> decode(std::span<const std::byte> bytes);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
