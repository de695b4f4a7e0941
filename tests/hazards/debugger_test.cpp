// A debugger attached (hazard 18): it must be told to let the signals of faults pass, and it reads
// pages that are not there without hanging.
#include <sys/ptrace.h>

#include <cstdlib>

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
