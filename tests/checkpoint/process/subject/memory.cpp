// Private memory: anonymous, of files, of libraries.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "stage.hpp"

namespace subject {
namespace {

constexpr std::size_t kPage = 4096;

char* map(std::size_t length, int protection, int flags = 0, int descriptor = -1) {
  const int anonymous = descriptor < 0 ? MAP_ANONYMOUS : 0;
  void* const at =
      ::mmap(nullptr, length, protection, MAP_PRIVATE | anonymous | flags, descriptor, 0);
  must(at == MAP_FAILED ? -1 : 0, "mmap");
  return static_cast<char*>(at);
}
char* map_writable(std::size_t length, int flags = 0) {
  return map(length, PROT_READ | PROT_WRITE, flags);
}
void protect(char* at, std::size_t length, int protection) {
  must(::mprotect(at, length, protection), "mprotect");
}

sigjmp_buf escape;
void jump_out(int) { ::siglongjmp(escape, 1); }
// A store that is made, and where it is written.
void store(char* at, int value) { *const_cast<volatile char*>(at) = static_cast<char>(value); }
template <class Access>
bool faults(Access access) {
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = jump_out;
  ::sigaction(SIGSEGV, &action, &before);
  volatile bool faulted = true;
  if (sigsetjmp(escape, 1) == 0) {
    access();
    faulted = false;
  }
  ::sigaction(SIGSEGV, &before, nullptr);
  return faulted;
}

// What lies in the page of a mapping of a file.
std::string file_of_pages(Stage& stage, const std::string& name) {
  const std::string path = stage.file(name);
  std::string bytes;
  for (char letter = 'a'; letter < 'a' + 16; ++letter) bytes += std::string(kPage, letter);
  stage.say(name, bytes);
  return path;
}

const Registered kProtections("protections", [](Stage& stage) {
  char* const all = map_writable(64 * kPage);
  for (std::size_t i = 0; i < 64; ++i) std::memset(all + i * kPage, static_cast<int>(i + 1), kPage);
  protect(all + 8 * kPage, 8 * kPage, PROT_NONE);
  protect(all + 24 * kPage, 8 * kPage, PROT_READ);
  protect(all + 40 * kPage, 8 * kPage, PROT_READ | PROT_EXEC);
  protect(all + 56 * kPage, 4 * kPage, PROT_READ | PROT_WRITE | PROT_EXEC);
  char* const code = map_writable(kPage);
  std::memcpy(code, "\xb8\x2a\x00\x00\x00\xc3", 6);  // mov $42, %eax; ret
  protect(code, kPage, PROT_READ | PROT_EXEC);
  const char* const untouched = map(16 * kPage, PROT_READ);
  char* const nothing = map(16 * kPage, PROT_NONE);
  stage.wait_for_go();
  stage.expect(faults([&] { static_cast<void>(*static_cast<volatile char*>(all + 9 * kPage)); }),
               "PROT_NONE");
  stage.expect(faults([&] { store(all + (25 * kPage), 1); }), "PROT_READ");
  stage.expect(!faults([&] { store(all + (57 * kPage + 1), 58); }), "PROT_WRITE");
  protect(all, 64 * kPage, PROT_READ);
  bool right = true;
  for (std::size_t i = 0; i < 64; ++i)
    right &=
        all[i * kPage] == static_cast<char>(i + 1) && all[(i + 1) * kPage - 1] == all[i * kPage];
  stage.expect(right, "contents, that of PROT_NONE too");
  stage.expect(reinterpret_cast<int (*)()>(code)() == 42, "code that the program made");
  stage.expect(untouched[5 * kPage] == 0, "memory that was never touched");
  stage.expect(faults([&] { store(nothing + kPage, 1); }), "a reservation");
  protect(nothing, kPage, PROT_READ | PROT_WRITE);
  nothing[0] = 7;
  stage.expect(nothing[0] == 7 && nothing[1] == 0, "a reservation that is used");
});

// Text that is changed: as debuggers, tracers and JITs do.
__attribute__((noinline, section("changed_text"), aligned(4096))) int answer() {
  int value = 17;
  asm volatile("" : "+r"(value));
  return value;
}

const Registered kChanged("changed_files", [](Stage& stage) {
  const std::string path = file_of_pages(stage, "pages");
  const int descriptor = static_cast<int>(must(::open(path.c_str(), O_RDONLY), "open"));
  char* const writable = map(16 * kPage, PROT_READ | PROT_WRITE, 0, descriptor);
  char* const hidden = map(16 * kPage, PROT_READ | PROT_WRITE, 0, descriptor);
  ::close(descriptor);
  writable[3 * kPage + 5] = 'X';
  writable[4 * kPage] = 'Y';
  std::memset(writable + 9 * kPage, 0, kPage);  // a page of its own that is zero
  hidden[7 * kPage] = 'Z';
  protect(hidden, 16 * kPage, PROT_NONE);
  auto* const code = reinterpret_cast<unsigned char*>(&answer);
  protect(reinterpret_cast<char*>(code), kPage, PROT_READ | PROT_WRITE);
  const std::array<unsigned char, 6> patch{0xb8, 0x63, 0, 0, 0, 0xc3};  // mov $99, %eax; ret
  std::memcpy(code, patch.data(), patch.size());
  protect(reinterpret_cast<char*>(code), kPage, PROT_READ | PROT_EXEC);
  stage.wait_for_go();
  stage.expect(writable[3 * kPage + 5] == 'X' && writable[3 * kPage + 6] == 'd', "a changed page");
  stage.expect(writable[4 * kPage] == 'Y' && writable[5 * kPage] == 'f', "and one that is not");
  stage.expect(writable[9 * kPage] == 0 && writable[10 * kPage - 1] == 0, "a page made zero");
  protect(hidden, 16 * kPage, PROT_READ);
  stage.expect(hidden[7 * kPage] == 'Z' && hidden[8 * kPage] == 'i', "under PROT_NONE");
  stage.expect(answer() == 99, "text that was changed");
  stage.expect(contents_of(path)[3 * kPage + 5] == 'd', "the file");
});

const Registered kDeleted("deleted_files", [](Stage& stage) {
  const std::string path = file_of_pages(stage, "soon-gone");
  const int descriptor = static_cast<int>(must(::open(path.c_str(), O_RDONLY), "open"));
  char* const pages = map(16 * kPage, PROT_READ | PROT_WRITE, 0, descriptor);
  ::close(descriptor);
  pages[2 * kPage] = 'X';
  protect(pages + 8 * kPage, 8 * kPage, PROT_READ);
  must(::unlink(path.c_str()), "unlink");
  const std::string other = file_of_pages(stage, "replaced");
  const int replaced = static_cast<int>(must(::open(other.c_str(), O_RDONLY), "open"));
  const char* const before = map(16 * kPage, PROT_READ, 0, replaced);
  ::close(replaced);
  stage.say("replaced", "shorter");  // as an update does it
  stage.wait_for_go();
  stage.expect(pages[2 * kPage] == 'X' && pages[3 * kPage] == 'd', "a deleted file");
  stage.expect(pages[15 * kPage] == 'p', "its last page");
  stage.expect(faults([&] { store(pages + (9 * kPage), 1); }), "its protection");
  stage.expect(before[11 * kPage] == 'l', "a file that was replaced");
});

const Registered kAdvice("advice", [](Stage& stage) {
  char* const not_forked = map_writable(8 * kPage);
  std::memset(not_forked, 'n', 8 * kPage);
  must(::madvise(not_forked, 8 * kPage, MADV_DONTFORK), "madvise");
  char* const wiped = map_writable(8 * kPage);
  std::memset(wiped, 'w', 8 * kPage);
  must(::madvise(wiped, 8 * kPage, MADV_WIPEONFORK), "madvise");
  char* const not_dumped = map_writable(8 * kPage);
  must(::madvise(not_dumped, 8 * kPage, MADV_DONTDUMP), "madvise");
  char* const locked = map_writable(8 * kPage);
  must(::mlock(locked, 8 * kPage), "mlock");
  locked[0] = 'l';
  char* const huge = map_writable(8 << 20);
  must(::madvise(huge, 8 << 20, MADV_HUGEPAGE), "madvise");
  std::memset(huge, 'h', 8 << 20);
  stage.wait_for_go();
  stage.expect(not_forked[0] == 'n' && not_forked[7 * kPage] == 'n', "MADV_DONTFORK");
  stage.expect(wiped[0] == 'w' && wiped[7 * kPage] == 'w', "MADV_WIPEONFORK");
  stage.expect(locked[0] == 'l' && huge[(8 << 20) - 1] == 'h', "contents");
  const std::string smaps = contents_of("/proc/self/smaps");
  const auto flags_of = [&](const char* at) {
    char start[32];
    std::snprintf(start, sizeof start, "%lx-", reinterpret_cast<unsigned long>(at));
    const std::size_t line = smaps.find(start);
    if (line == std::string::npos) return std::string();
    const std::size_t flags = smaps.find("VmFlags:", line);
    return smaps.substr(flags, smaps.find('\n', flags) - flags) + " ";
  };
  stage.expect(flags_of(not_dumped).find(" dd ") != std::string::npos, "MADV_DONTDUMP");
  stage.expect(flags_of(locked).find(" lo ") != std::string::npos, "mlock");
  const pid_t child = ::fork();
  if (child == 0) {
    const bool gone = faults([&] { static_cast<void>(*static_cast<volatile char*>(not_forked)); });
    ::_exit(gone && wiped[0] == 0 ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  stage.expect(status == 0, "what a child gets");
});

const Registered kSparse("sparse", [](Stage& stage) {
  constexpr std::size_t kBytes = std::size_t{64} << 30;
  char* const sparse = map(kBytes, PROT_READ | PROT_WRITE, MAP_NORESERVE);
  constexpr std::size_t kStep = std::size_t{997} << 20;
  for (std::size_t at = 0; at < kBytes; at += kStep) sparse[at] = static_cast<char>(at >> 20);
  char* const reserved = map(kBytes, PROT_NONE, MAP_NORESERVE);
  stage.wait_for_go();
  bool right = true;
  for (std::size_t at = 0; at < kBytes; at += kStep)
    right &= sparse[at] == static_cast<char>(at >> 20) && sparse[at + kPage] == 0;
  stage.expect(right, "64 GiB with little in them");
  protect(reserved + kBytes / 2, kPage, PROT_READ | PROT_WRITE);
  reserved[kBytes / 2] = 1;
  stage.expect(reserved[kBytes / 2 + 1] == 0, "64 GiB of nothing");
});

__attribute__((noinline)) unsigned go_down(unsigned depth) {
  volatile char room[1024];
  room[0] = static_cast<char>(depth);
  if (depth == 0) return 0;
  const unsigned below = go_down(depth - 1);
  return below + (room[0] == static_cast<char>(depth) ? 1 : 0);
}

const Registered kStacks("stacks", [](Stage& stage) {
  // Far from where the kernel puts other mappings, which would be in its way.
  char* const place = reinterpret_cast<char*>(0x200000000000);
  void* const grows =
      ::mmap(place, 4 * kPage, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
  must(grows == MAP_FAILED ? -1 : 0, "mmap");
  auto* const growing = static_cast<char*>(grows);
  growing[-1] = 'g';  // it has grown by a page or more
  stage.wait_for_go();
  stage.expect(go_down(6000) == 6000, "the first thread's stack grows by 6 MiB");
  stage.expect(growing[-1] == 'g', "a mapping that grew");
  stage.expect(!faults([&] { store(growing + (-3 * static_cast<long>(kPage)), 'h'); }),
               "a mapping that grows");
});

const Registered kHeap("heap", [](Stage& stage) {
  char* const before = static_cast<char*>(::sbrk(0));
  must(::brk(before + 40 * kPage), "brk");
  before[39 * kPage] = 'b';
  std::vector<std::unique_ptr<std::string>> strings;
  for (int i = 0; i < 5000; ++i) strings.push_back(std::make_unique<std::string>(40 + i % 90, 's'));
  for (std::size_t i = 0; i < strings.size(); i += 3) strings[i].reset();
  auto large = std::make_unique<std::vector<int>>(500'000, 5);
  stage.wait_for_go();
  stage.expect(before[39 * kPage] == 'b', "contents");
  char* const end = static_cast<char*>(::sbrk(0));
  stage.expect(::sbrk(10 * kPage) == end, "it grows where it was");
  std::memset(end, 'e', 10 * kPage);
  for (std::size_t i = 0; i < strings.size(); i += 3)
    strings[i] = std::make_unique<std::string>(70, 't');
  for (const auto& each : strings) stage.expect(each->front() == each->back(), "strings");
  stage.expect((*large)[499'999] == 5, "a large block");
  large.reset();
  std::vector<int> more(4'000'000, 6);
  stage.expect(more[3'999'999] == 6, "malloc goes on");
  ::free(std::malloc(100));
});

int ask(void* library, int question) {
  void* const found = ::dlsym(library, "plugin_answer");
  return found == nullptr ? -1 : reinterpret_cast<int (*)(int)>(found)(question);
}
std::string plugin_path() {
  const std::string self = "/proc/self/exe";
  std::array<char, 4096> path{};
  must(::readlink(self.c_str(), path.data(), path.size() - 1), "readlink");
  const std::string program = path.data();
  return program.substr(0, program.rfind('/')) + "/process_plugin.so";
}

const Registered kLibraries("libraries", [](Stage& stage) {
  const std::string original = plugin_path();
  // One that is deleted while it is loaded, as by an update.
  const std::string copied = stage.file("copied.so");
  stage.say("copied.so", contents_of(original));
  void* const copy = ::dlopen(copied.c_str(), RTLD_NOW);
  must(copy == nullptr ? -1 : 0, "dlopen");
  must(::unlink(copied.c_str()), "unlink");
  *static_cast<int*>(::dlsym(copy, "plugin_state")) = 100;
  stage.expect(ask(copy, 1) == 101, "before the cut");
  stage.wait_for_go();
  stage.expect(ask(copy, 2) == 1102, "a library whose file is gone");
  void* const fresh = ::dlopen(original.c_str(), RTLD_NOW);
  stage.expect(fresh != nullptr && ask(fresh, 1) == 42, "a library that is loaded afterwards");
  if (fresh != nullptr) ::dlclose(fresh);
  try {
    throw std::string("x");
  } catch (const std::string& word) {
    stage.expect(word == "x", "exceptions find their way");
  }
});

}  // namespace
}  // namespace subject
