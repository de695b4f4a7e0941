// A debugger attached (hazard 18): it must be told to let the signals of faults pass, and it reads
// pages that are not there without hanging.
#include <elf.h>
#include <sys/ptrace.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "hazards/support.hpp"

namespace pagetrap::hazards {
namespace {

// What the debugger runs, as a program of its own (this one again): 1000 faults, summed.
int run_debuggee(BackendId id) {
  Region region =
      must(Region::create(8 * page_size(), options_for(id, FaultKind::write_protected)), "create");
  Opener opener;
  must(region.on_fault(Opener::open, &opener), "on_fault");
  unsigned sum = 0;
  for (unsigned i = 0; i < 1000; ++i) {
    must(region.protect(region.range(), Access::read), "protect");
    store(page_at(region, i % 8).base, i);
    sum += load(page_at(region, i % 8).base);
  }
  require(opener.faults == 1000, "faults");
  unsigned expected = 0;
  for (unsigned i = 0; i < 1000; ++i) expected += i & 0xff;
  return sum == expected ? 42 : kBroken;
}

TEST(Debugger, Debuggee) {
  const char* const backend = std::getenv("PAGETRAP_HAZARDS_DEBUGGEE");
  if (backend == nullptr) GTEST_SKIP() << "run by the debugger, see below";
  std::_Exit(run_debuggee(*backend_named(backend)));
}

std::string output_of(const std::string& command) {
  std::FILE* const pipe = ::popen(command.c_str(), "re");
  if (pipe == nullptr) return "";
  std::string text;
  std::array<char, 4096> block{};
  for (std::size_t got = 0; (got = std::fread(block.data(), 1, block.size(), pipe)) > 0;)
    text.append(block.data(), got);
  ::pclose(pipe);
  return text;
}

TEST(Debugger, GdbLetsFaultsPass) {
  if (output_of("command -v gdb").empty()) GTEST_SKIP() << "gdb is not installed";
  std::array<char, 4096> self{};
  ASSERT_GT(::readlink("/proc/self/exe", self.data(), self.size() - 1), 0);
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    ::setenv("PAGETRAP_HAZARDS_DEBUGGEE", name(id), 1);
    const std::string text = output_of(
        std::string("timeout 60 gdb -nx -batch -iex 'set debuginfod enabled off' "
                    "-ex 'set auto-load off' -ex 'handle SIGSEGV SIGBUS nostop noprint pass' "
                    "-ex run -ex 'print $_exitcode' --args '") +
        self.data() + "' --gtest_filter=Debugger.Debuggee 2>&1 </dev/null");
    ::unsetenv("PAGETRAP_HAZARDS_DEBUGGEE");
    if (text.find("Could not trace the inferior") != std::string::npos)
      GTEST_SKIP() << "ptrace is not allowed here";
    EXPECT_NE(std::string::npos, text.find("$1 = 42")) << text;
  }
}

// A tracer reads what is there, and gets EIO for what is not.
TEST(Debugger, PeekingAtAMissingPageIsAnErrorAndNotAHang) {
  for (const BackendId id : backends_for(FaultKind::missing)) {
    SCOPED_TRACE(name(id));
    int ends[2];
    ASSERT_EQ(0, ::pipe2(ends, O_CLOEXEC));
    const pid_t child = start_child([&] {
      Region region =
          must(Region::create(2 * page_size(), options_for(id, FaultKind::missing)), "create");
      Opener opener;
      must(region.on_fault(Opener::open, &opener), "on_fault");
      store(page_at(region, 1).base, 0x5c);
      std::byte* const data = region.data();
      require(::write(ends[1], &data, sizeof data) == sizeof data, "write");
      if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
      ::raise(SIGSTOP);
      store(region.data(), 1);
      require(load(region.data()) == 1, "its own access is served after all that");
    });
    std::byte* data = nullptr;
    ASSERT_EQ(static_cast<ssize_t>(sizeof data), ::read(ends[0], &data, sizeof data));
    int status = 0;
    ASSERT_EQ(child, ::waitpid(child, &status, 0));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) GTEST_SKIP() << "ptrace is not allowed";
    ASSERT_TRUE(WIFSTOPPED(status));
    errno = 0;
    const long there = ::ptrace(PTRACE_PEEKDATA, child, data + page_size(), nullptr);
    EXPECT_EQ(0, errno);
    EXPECT_EQ(0x5c, there & 0xff);
    errno = 0;
    const long missing = ::ptrace(PTRACE_PEEKDATA, child, data, nullptr);
    // Past mprotect's rights the tracer reads the zeroes that are there.
    if (id == BackendId::mprotect) {
      EXPECT_EQ(0, errno);
      EXPECT_EQ(0, missing);
    } else {
      EXPECT_EQ(EIO, errno);
    }
    // With its signals handed on, as the debugger must.
    for (;;) {
      const int signal = WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
      ::ptrace(PTRACE_CONT, child, nullptr, signal);
      ASSERT_EQ(child, ::waitpid(child, &status, 0));
      if (!WIFSTOPPED(status)) break;
    }
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(0, WEXITSTATUS(status));
    ::close(ends[0]);
    ::close(ends[1]);
  }
}

// A child that made a region with `options` and stopped for its tracer, which is told where the
// region is. Goes on with `check` when it is let go. Null: ptrace is not allowed here.
struct Stopped {
  pid_t child = 0;
  std::byte* data = nullptr;
};
template <class Check>
Stopped stop_with_region(const RegionOptions& options, Check check) {
  int ends[2];
  EXPECT_EQ(0, ::pipe2(ends, O_CLOEXEC));
  Stopped stopped;
  stopped.child = start_child([&] {
    Region region = must(Region::create(2 * page_size(), options), "create");
    Opener opener;
    must(region.on_fault(Opener::open, &opener), "on_fault");
    for (const std::size_t page : {0U, 1U}) store(page_at(region, page).base, 0x5c);
    if (region.dirty_form() != DirtyForm::none) {
      must(region.arm_dirty(region.range()), "arm");
    } else {
      must(region.protect(region.range(), Access::read), "protect");
    }
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
    std::byte* const data = region.data();
    require(::write(ends[1], &data, sizeof data) == sizeof data, "write");
    ::raise(SIGSTOP);
    check(region, opener);
  });
  ::close(ends[1]);
  const bool told = ::read(ends[0], &stopped.data, sizeof stopped.data) > 0;
  const pid_t waited = ::waitpid(stopped.child, nullptr, WUNTRACED);
  EXPECT_TRUE(!told || waited == stopped.child);
  ::close(ends[0]);
  return stopped;
}

// Stores to its first page, in the tracer's way: 0, or the errno.
int poke(const Stopped& stopped) {
  errno = 0;
  ::ptrace(PTRACE_POKEDATA, stopped.child, stopped.data, 0x6b6b6b6b6b6b6b6b);
  return errno;
}

// A tracer's store is made in the kernel: past mprotect's rights, never past userfaultfd's.
TEST(Debugger, PokingAtAProtectedPage) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    const bool passes = id == BackendId::mprotect;
    const Stopped stopped = stop_with_region(
        options_for(id, FaultKind::write_protected), [passes](Region& region, Opener& opener) {
          require(opener.faults == 0, "the handler has seen nothing");
          require(load(region.data()) == (passes ? 0x6bU : 0x5cU), "stored or not");
          store(region.data(), 1);
          require(opener.faults == 1 && load(region.data()) == 1, "own stores trap as before");
        });
    if (stopped.data == nullptr) GTEST_SKIP() << "ptrace is not allowed here";
    EXPECT_EQ(passes ? 0 : EIO, poke(stopped));
    ::ptrace(PTRACE_DETACH, stopped.child, nullptr, nullptr);
    EXPECT_EQ(kSucceeded, wait_for(stopped.child));
  }
}

// Of the forms of DIRTY, scan alone knows of all writers: the mark is in the page table.
TEST(Debugger, PokingAtATrackedPage) {
  for (const DirtyForm form : {DirtyForm::scan, DirtyForm::traps}) {
    for (const BackendId id : kTrapping) {
      RegionOptions options;
      options.backend = id;
      options.dirty = form;
      if (!Region::create(page_size(), options)) continue;
      SCOPED_TRACE(std::string(name(id)) + (form == DirtyForm::scan ? ", scan" : ", traps"));
      const bool passes = form == DirtyForm::scan || id == BackendId::mprotect;
      const bool known = form == DirtyForm::scan;
      const Stopped stopped = stop_with_region(options, [=](Region& region, Opener&) {
        std::vector<PageRange> found;
        must(region.dirty(region.range(), found), "dirty");
        require(found.size() == (known ? 1 : 0), "what is known");
        if (known) require(found[0] == page_at(region, 0), "that page");
        require(load(region.data()) == (passes ? 0x6bU : 0x5cU), "stored or not");
      });
      if (stopped.data == nullptr) GTEST_SKIP() << "ptrace is not allowed here";
      EXPECT_EQ(passes ? 0 : EIO, poke(stopped));
      ::ptrace(PTRACE_DETACH, stopped.child, nullptr, nullptr);
      EXPECT_EQ(kSucceeded, wait_for(stopped.child));
    }
  }
}

// The page at `address` as a core file has it; empty if it has not.
std::string page_in_core(const std::string& path, std::uintptr_t address) {
  std::ifstream core(path, std::ios::binary);
  Elf64_Ehdr head{};
  core.read(reinterpret_cast<char*>(&head), sizeof head);
  for (std::size_t i = 0; core && i < head.e_phnum; ++i) {
    Elf64_Phdr part{};
    core.seekg(static_cast<std::streamoff>(head.e_phoff + i * sizeof part));
    core.read(reinterpret_cast<char*>(&part), sizeof part);
    if (part.p_type != PT_LOAD || address - part.p_vaddr >= part.p_filesz) continue;
    std::string page(page_size(), '?');
    core.seekg(static_cast<std::streamoff>(part.p_offset + (address - part.p_vaddr)));
    core.read(page.data(), static_cast<std::streamsize>(page.size()));
    return page;
  }
  return "";
}

// A child that fills page 5 of a region and aborts, with a core file in `folder`.
pid_t start_dumping(BackendId id, Backing backing, const std::string& folder, int tell) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::alarm(20);
  RegionOptions options = options_for(id, FaultKind::missing);
  options.backing = backing;
  options.kernel_accesses = capabilities(id, backing).kernel_accesses;
  Region region = must(Region::create(64 * page_size(), options), "create");
  Opener opener;
  must(region.on_fault(Opener::open, &opener), "on_fault");
  std::memset(page_at(region, 5).base, 'x', page_size());
  rlimit most{};
  ::getrlimit(RLIMIT_CORE, &most);
  most.rlim_cur = most.rlim_max;
  ::setrlimit(RLIMIT_CORE, &most);
  require(::chdir(folder.c_str()) == 0, "chdir");
  std::byte* const data = region.data();
  require(::write(tell, &data, sizeof data) == sizeof data, "write");
  ::abort();
}

// The kernel asks nobody while it writes a core file: it ends, with holes for what is not there.
TEST(Debugger, ACoreFileHasHolesForMissingPages) {
  if (under_sanitizer()) GTEST_SKIP() << "its shadow memory would be in the file";
  std::string pattern;
  std::ifstream("/proc/sys/kernel/core_pattern") >> pattern;
  rlimit most{};
  ::getrlimit(RLIMIT_CORE, &most);
  if (pattern != "core" || most.rlim_max == 0) GTEST_SKIP() << "no core files here";
  for (const Backing backing : {Backing::anonymous, Backing::memfd}) {
    for (const BackendId id : backends_for(FaultKind::missing, backing)) {
      SCOPED_TRACE(std::string(name(id)) + (backing == Backing::memfd ? ", memfd" : ""));
      std::string folder = "/tmp/pagetrap-hazards-XXXXXX";
      ASSERT_NE(nullptr, ::mkdtemp(folder.data()));
      int ends[2];
      ASSERT_EQ(0, ::pipe2(ends, O_CLOEXEC));
      EXPECT_EQ(killed_by(SIGABRT), wait_for(start_dumping(id, backing, folder, ends[1])));
      std::uintptr_t data = 0;
      EXPECT_EQ(static_cast<ssize_t>(sizeof data), ::read(ends[0], &data, sizeof data));
      for (const auto& file : std::filesystem::directory_iterator(folder)) {
        const std::string core = file.path();
        EXPECT_EQ(std::string(page_size(), 'x'), page_in_core(core, data + 5 * page_size()));
        const std::string missing = page_in_core(core, data + 6 * page_size());
        EXPECT_TRUE(missing.empty() || missing == std::string(page_size(), '\0'));
      }
      EXPECT_FALSE(std::filesystem::is_empty(folder));
      std::filesystem::remove_all(folder);
      ::close(ends[0]);
      ::close(ends[1]);
    }
  }
}

// Job control: stopped inside a fault, continued, again and again.
TEST(Debugger, StoppingAndContinuingBySignalsDoesNotLoseFaults) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    const pid_t child = start_child([id] {
      if (run_debuggee(id) != 42) ::_exit(kBroken);
      if (run_debuggee(id) != 42) ::_exit(kBroken);
    });
    for (int i = 0; i < 10; ++i) {
      ::kill(child, SIGSTOP);
      ::usleep(300);
      ::kill(child, SIGCONT);
      ::usleep(300);
    }
    EXPECT_EQ(kSucceeded, wait_for(child));
  }
}

}  // namespace
}  // namespace pagetrap::hazards
