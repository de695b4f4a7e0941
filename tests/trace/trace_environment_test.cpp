// PAGETRAP_TRACE and PAGETRAP_TRACE_FILE, seen from another process.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <pagetrap/trace/trace.hpp>

#include "sys/fd.hpp"

namespace pagetrap::trace {
namespace {

/// The traced program, waiting for us after its work.
class Program {
 public:
  Program(const std::string& kinds, const std::string& file, const std::string& events = "") {
    std::array<int, 2> input{};
    std::array<int, 2> output{};
    std::array<int, 2> errors{};
    if (::pipe2(input.data(), O_CLOEXEC) != 0 || ::pipe2(output.data(), O_CLOEXEC) != 0 ||
        ::pipe2(errors.data(), O_CLOEXEC) != 0)
      return;
    child_ = ::fork();
    if (child_ == 0) {
      ::dup2(input[0], STDIN_FILENO);
      ::dup2(output[1], STDOUT_FILENO);
      ::dup2(errors[1], STDERR_FILENO);
      ::setenv("PAGETRAP_TRACE", kinds.c_str(), 1);
      if (!file.empty()) ::setenv("PAGETRAP_TRACE_FILE", file.c_str(), 1);
      if (!events.empty()) ::setenv("PAGETRAP_TRACE_EVENTS", events.c_str(), 1);
      ::alarm(30);
      ::execl(TRACED_PROGRAM, TRACED_PROGRAM, static_cast<char*>(nullptr));
      ::_exit(127);
    }
    for (const int unused : {input[0], output[1], errors[1]}) ::close(unused);
    input_ = sys::Descriptor(input[1]);
    output_ = sys::Descriptor(output[0]);
    errors_ = sys::Descriptor(errors[0]);
    char c = 0;
    while (::read(output_.get(), &c, 1) == 1 && c != '\n') said += c;
  }
  ~Program() { end(); }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  int end() {
    if (child_ <= 0) return -1;
    input_.reset();
    std::array<char, 1000> text{};
    for (ssize_t got = 0; (got = ::read(errors_.get(), text.data(), text.size())) > 0;)
      complained.append(text.data(), static_cast<std::size_t>(got));
    int status = 0;
    ::waitpid(child_, &status, 0);
    child_ = -1;
    return status;
  }
  [[nodiscard]] pid_t id() const { return child_; }

  std::string said;
  std::string complained;

 private:
  pid_t child_ = -1;
  sys::Descriptor input_;
  sys::Descriptor output_;
  sys::Descriptor errors_;
};

TEST(TraceEnvironment, OtherProcessesReadTheFile) {
  std::string path = "/tmp/pagetrap-trace.XXXXXX";
  const sys::Descriptor file(::mkostemp(path.data(), O_CLOEXEC));
  ASSERT_TRUE(file.valid());
  {
    Program program("fault,protect", path);
    ASSERT_EQ(program.said.rfind("ready ", 0), 0U) << program.said << program.complained;
    ASSERT_EQ(program.said.back(), '1');
    const auto base = std::strtoull(program.said.c_str() + 6, nullptr, 16);
    // It is still running.
    FileHeader header{};
    ASSERT_EQ(::pread(file.get(), &header, sizeof header, 0), static_cast<ssize_t>(sizeof header));
    EXPECT_EQ(std::string(header.magic, sizeof header.magic), "PTTRACE1");
    EXPECT_EQ(header.version, 1U);
    EXPECT_EQ(header.event_bytes, sizeof(Event));
    EXPECT_EQ(header.capacity, 65536U);
    EXPECT_EQ(header.process, static_cast<std::uint64_t>(program.id()));
    ASSERT_EQ(header.next, 21U);  // one protect, twenty faults
    unsigned faults = 0;
    for (std::uint64_t sequence = 1; sequence <= header.next; ++sequence) {
      Event event;
      const auto offset = 4096 + (sequence % header.capacity) * sizeof event;
      ASSERT_EQ(::pread(file.get(), &event, sizeof event, static_cast<off_t>(offset)),
                static_cast<ssize_t>(sizeof event));
      EXPECT_EQ(event.sequence, sequence);
      EXPECT_EQ(event.thread, static_cast<std::uint32_t>(program.id()));
      EXPECT_GT(event.nanoseconds, 0U);
      if (event.kind == Kind::protect) {
        EXPECT_EQ(event.address, base);
        EXPECT_EQ(event.detail, 20U << 8 | 1);
        continue;
      }
      ASSERT_EQ(event.kind, Kind::fault);
      EXPECT_EQ(event.address,
                base + faults * static_cast<unsigned long>(::sysconf(_SC_PAGESIZE)) + 9);
      EXPECT_EQ(event.detail & 0xff, 4U);       // write_protected
      EXPECT_EQ(event.detail >> 8 & 0xff, 1U);  // a write
      faults += 1;
    }
    EXPECT_EQ(faults, 20U);
    EXPECT_EQ(program.end(), 0);
  }
  ::unlink(path.c_str());
}

TEST(TraceEnvironment, UnknownKindIsSaidOnceAndTracesNothing) {
  Program program("fault,nonsense", "");
  ASSERT_EQ(program.said.rfind("ready ", 0), 0U);
  EXPECT_EQ(program.said.back(), '0');
  EXPECT_EQ(program.end(), 0);
  EXPECT_NE(program.complained.find("PAGETRAP_TRACE ignored"), std::string::npos);
  EXPECT_NE(program.complained.find("fault protect unprotect"), std::string::npos);
}

TEST(TraceEnvironment, UnusableFileIsSaidOnceAndTracesNothing) {
  Program program("all", "/nonexistent/folder/trace");
  ASSERT_EQ(program.said.rfind("ready ", 0), 0U);
  EXPECT_EQ(program.said.back(), '0');
  EXPECT_EQ(program.end(), 0);
  EXPECT_NE(program.complained.find("ENOENT"), std::string::npos) << program.complained;
}

TEST(TraceEnvironment, SizeOfTheRing) {
  std::string path = "/tmp/pagetrap-trace.XXXXXX";
  const sys::Descriptor file(::mkostemp(path.data(), O_CLOEXEC));
  ASSERT_TRUE(file.valid());
  Program program("fault", path, "9");
  EXPECT_EQ(program.said.back(), '1');
  FileHeader header{};
  ASSERT_EQ(::pread(file.get(), &header, sizeof header, 0), static_cast<ssize_t>(sizeof header));
  EXPECT_EQ(header.capacity, 16U);
  EXPECT_EQ(header.next, 20U);
  EXPECT_EQ(program.end(), 0);
  ::unlink(path.c_str());
}

TEST(TraceEnvironment, SizeThatIsNoneIsSaidOnceAndTracesNothing) {
  for (const char* const size : {"0", "many", "12k", "-1", "1073741825"}) {
    Program program("fault", "", size);
    EXPECT_EQ(program.said.back(), '0') << size;
    EXPECT_EQ(program.end(), 0);
    EXPECT_NE(program.complained.find("PAGETRAP_TRACE_EVENTS"), std::string::npos) << size;
  }
}

TEST(TraceEnvironment, EmptyMeansOff) {
  Program program("", "");
  ASSERT_EQ(program.said.rfind("ready ", 0), 0U);
  EXPECT_EQ(program.said.back(), '0');
  EXPECT_EQ(program.end(), 0);
  EXPECT_EQ(program.complained, "");
}

}  // namespace
}  // namespace pagetrap::trace
