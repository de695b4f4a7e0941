// Memory that several mappings or descriptors have part in.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "stage.hpp"

namespace subject {
namespace {

constexpr std::size_t kPage = 4096;

char* map(int descriptor, std::size_t length, int protection, int flags, off_t offset = 0) {
  void* const at = ::mmap(nullptr, length, protection, flags, descriptor, offset);
  must(at == MAP_FAILED ? -1 : 0, "mmap");
  return static_cast<char*>(at);
}

int make_memfd(const char* name, std::size_t size, unsigned flags = 0) {
  const int descriptor = static_cast<int>(must(::memfd_create(name, flags), "memfd_create"));
  must(::ftruncate(descriptor, static_cast<off_t>(size)), "ftruncate");
  return descriptor;
}

const Registered kMemfds("memfds", [](Stage& stage) {
  const int memory = make_memfd("the name", 64 * kPage, MFD_CLOEXEC);
  must(::pwrite(memory, "written", 7, 0), "pwrite");
  must(::pwrite(memory, "far", 3, 50 * kPage), "pwrite");
  char* const one = map(memory, 8 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, 48 * kPage);
  char* const other = map(memory, 4 * kPage, PROT_READ, MAP_SHARED, 48 * kPage);
  std::strcpy(one + kPage, "mapped");
  must(::lseek(memory, 3, SEEK_SET), "lseek");
  const std::string path = "/proc/self/fd/" + std::to_string(memory);
  const int read_only = static_cast<int>(must(::open(path.c_str(), O_RDONLY), "open"));
  const int gone = make_memfd("only mapped", 4 * kPage);
  char* const left = map(gone, 4 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED);
  std::strcpy(left + kPage, "left");
  ::close(gone);
  char* const own = map(memory, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
  own[0] = 'W';
  const int empty = make_memfd("empty", 0);
  stage.wait_for_go();
  struct stat what {};
  stage.expect(::fstat(memory, &what) == 0 && what.st_size == 64 * kPage, "size");
  stage.expect(what.st_blocks < 64, "holes");
  char bytes[8] = {};
  stage.expect(::read(memory, bytes, 4) == 4 && std::strcmp(bytes, "tten") == 0, "offset");
  stage.expect(::lseek(read_only, 0, SEEK_CUR) == 0, "another description's offset");
  stage.expect(::write(read_only, "x", 1) == -1 && errno == EBADF, "another description's flags");
  stage.expect(std::strcmp(one + kPage, "mapped") == 0, "what was written to it mapped");
  stage.expect(std::strcmp(one + 2 * kPage, "far") == 0, "what was written to it");
  std::strcpy(one + 3 * kPage, "both");
  stage.expect(std::strcmp(other + 3 * kPage, "both") == 0, "two mappings of the same");
  stage.expect(::pread(read_only, bytes, 5, 51 * kPage) == 5 && std::strcmp(bytes, "both") == 0,
               "mapping and descriptor are of the same");
  stage.expect(std::strcmp(left + kPage, "left") == 0, "one whose descriptor is closed");
  stage.expect(
      contents_of("/proc/self/maps").find("/memfd:only mapped (deleted)") != std::string::npos,
      "its name");
  stage.expect(std::strcmp(own, "Written") == 0, "a private mapping");
  stage.expect(::fstat(empty, &what) == 0 && what.st_size == 0, "an empty one");
  char name[64] = {};
  stage.expect(::readlink(path.c_str(), name, sizeof name - 1) > 0 &&
                   std::strcmp(name, "/memfd:the name (deleted)") == 0,
               "the name");
});

const Registered kSeals("seals", [](Stage& stage) {
  const int sealed = make_memfd("sealed", kPage, MFD_ALLOW_SEALING);
  must(::pwrite(sealed, "sealed", 7, 0), "pwrite");
  must(::fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
       "seal");
  const char* const readable = map(sealed, kPage, PROT_READ, MAP_SHARED);
  const int unsealable = make_memfd("unsealable", kPage);
  // Whoever has it mapped may go on writing; nobody else.
  const int future = make_memfd("future", kPage, MFD_ALLOW_SEALING);
  char* const writable = map(future, kPage, PROT_READ | PROT_WRITE, MAP_SHARED);
  must(::fcntl(future, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), "seal");
  std::strcpy(writable, "future");
  constexpr unsigned kNoExec = 8;  // MFD_NOEXEC_SEAL, 6.3
  const int no_exec = ::memfd_create("no exec", kNoExec);
  if (no_exec >= 0) must(::ftruncate(no_exec, kPage), "ftruncate");
  stage.wait_for_go();
  stage.expect(
      ::fcntl(sealed, F_GET_SEALS) == (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
      "seals");
  stage.expect(std::strcmp(readable, "sealed") == 0, "contents");
  stage.expect(::pwrite(sealed, "x", 1, 0) == -1 && errno == EPERM, "it is sealed");
  stage.expect(::fcntl(unsealable, F_GET_SEALS) == F_SEAL_SEAL, "one that takes no seals");
  stage.expect(::pwrite(unsealable, "x", 1, 0) == 1, "and is written to");
  stage.expect(std::strcmp(writable, "future") == 0,
               "contents of one that may be written to no more");
  std::strcpy(writable, "again");
  stage.expect(::fcntl(future, F_GET_SEALS) == F_SEAL_FUTURE_WRITE, "its seal");
  stage.expect(::mmap(nullptr, kPage, PROT_WRITE, MAP_SHARED, future, 0) == MAP_FAILED,
               "no new mapping");
  if (no_exec < 0) return;
  struct stat what {};
  stage.expect(::fstat(no_exec, &what) == 0 && (what.st_mode & 0777) == 0666, "one not to be run");
  stage.expect(::pwrite(no_exec, "x", 1, 0) == 1, "one not to be run is written to");
});

const Registered kShared("shared_memory", [](Stage& stage) {
  char* const shared = map(-1, 300 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  for (std::size_t i = 0; i < 300; i += 7) shared[i * kPage] = static_cast<char>(i);
  must(::mprotect(shared + 100 * kPage, 10 * kPage, PROT_READ), "mprotect");
  must(::mprotect(shared + 200 * kPage, 7 * kPage, PROT_NONE), "mprotect");
  void* const moved = ::mremap(shared + 250 * kPage, 0, 10 * kPage, MREMAP_MAYMOVE);  // once more
  must(moved == MAP_FAILED ? -1 : 0, "mremap");
  const char* const twin = static_cast<const char*>(moved);
  stage.wait_for_go();
  must(::mprotect(shared + 200 * kPage, 7 * kPage, PROT_READ | PROT_WRITE), "mprotect");
  bool all = true;
  for (std::size_t i = 0; i < 300; i += 7) all &= shared[i * kPage] == static_cast<char>(i);
  stage.expect(all, "contents");
  shared[252 * kPage] = 'T';
  stage.expect(twin[2 * kPage] == 'T', "the same pages at two places");
  const pid_t child = ::fork();
  if (child == 0) {
    shared[0] = 'C';
    ::_exit(0);
  }
  while (shared[0] != 'C') sleep_ms(1);
  stage.expect(true, "shared with a child");
});

}  // namespace
}  // namespace subject
