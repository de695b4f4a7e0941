// Where images go: whole or not at all, whatever the disk, the reader or a kill does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <random>
#include <stdexcept>
#include <thread>

#include "checkpoint/image/chain.hpp"
#include "support.hpp"
#include "sys/fd.hpp"
#include "sys/injection.hpp"

namespace pagetrap::checkpoint::test {
namespace {

using testing::ElementsAre;

Bytes text_bytes(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// Saves a small image to `sink`; the errno that ended it, or 0.
int save(Sink& sink, std::size_t blocks = 4) {
  const auto begun = ImageWriter::begin(sink, one_region(512 * blocks, 1));
  if (!begun) return begun.error().number;
  for (std::size_t i = 0; i < blocks; ++i) {
    const BlockRun run{0, 512, i * 512};
    if (const auto added = (*begun)->add({&run, 1}, random_pages(512, i)); !added) {
      return added.error().number;
    }
  }
  if (const auto finished = (*begun)->finish(); !finished) return finished.error().number;
  if (const auto done = sink.commit(); !done) return done.error().number;
  return 0;
}

class FileSink : public testing::Test {
 protected:
  ~FileSink() override { sys::inject(sys::Call::none, 0); }
  Folder folder_;
  std::string path_ = folder_ / "image";
  const Bytes old_ = text_bytes("what was there before");
};

TEST_F(FileSink, AppearsWholeWhenCommitted) {
  write_file(path_, old_);
  auto sink = file_sink(path_).value();
  ASSERT_TRUE(sink->write(text_bytes("new")));
  EXPECT_EQ(read_file(path_), old_);
  EXPECT_EQ(folder_.names().size(), 2u);
  ASSERT_TRUE(sink->commit());
  EXPECT_EQ(read_file(path_), text_bytes("new"));
  sink.reset();
  EXPECT_THAT(folder_.names(), ElementsAre("image"));
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(FileSink, LeavesNoTraceWhenAbandoned) {
  write_file(path_, old_);
  const auto abandoned = file_sink(path_).value();
  ASSERT_TRUE(abandoned->write(text_bytes("new")));
  abandoned->abandon();
  EXPECT_THAT(folder_.names(), ElementsAre("image"));
  (void)file_sink(path_).value();  // destroyed at once
  EXPECT_THAT(folder_.names(), ElementsAre("image"));
  EXPECT_EQ(read_file(path_), old_);
}

TEST_F(FileSink, AFailureOfAnyCallLeavesTheOldFile) {
  write_file(path_, old_);
  for (const auto& [call, error] : {std::pair{sys::Call::write, EIO},
                                    {sys::Call::write, ENOSPC},
                                    {sys::Call::fsync, EIO},
                                    {sys::Call::rename, EACCES}}) {
    for (int skip = 0; skip < (call == sys::Call::write ? 7 : 1); ++skip) {
      auto sink = file_sink(path_).value();
      sys::inject(call, error, skip);
      EXPECT_EQ(save(*sink), error);
      sink->abandon();
      EXPECT_EQ(read_file(path_), old_);
      EXPECT_THAT(folder_.names(), ElementsAre("image"));
    }
  }
  // The directory's flush comes after the rename: the new file is there.
  auto sink = file_sink(path_).value();
  sys::inject(sys::Call::fsync, EIO, 1);
  EXPECT_EQ(save(*sink), EIO);
  sink->abandon();
  EXPECT_TRUE(verify(path_));
}

TEST_F(FileSink, AnErrorSticks) {
  const auto sink = file_sink(path_).value();
  const auto writer = ImageWriter::begin(*sink, one_region(16, 1)).value();
  const auto add = [&](std::uint64_t page) {
    const BlockRun run{0, 1, page};
    const auto added = writer->add({&run, 1}, written_pages(1, page));
    return added ? 0 : added.error().number;
  };
  EXPECT_EQ(add(0), 0);
  sys::inject(sys::Call::write, ENOSPC);
  EXPECT_EQ(add(1), ENOSPC);
  EXPECT_EQ(add(1), ENOSPC);
  EXPECT_EQ(add(2), ENOSPC);
  EXPECT_EQ(writer->finish().error().number, ENOSPC);
}

TEST_F(FileSink, WritesOnAfterShortWrites) {
  sys::inject(sys::Call::short_write, 1000, 0, 1 << 30);
  const auto sink = file_sink(path_).value();
  EXPECT_EQ(save(*sink), 0);
  sys::inject(sys::Call::none, 0);
  EXPECT_TRUE(verify(path_));
  EXPECT_EQ(load_all(path_)[0].size(), 4 * 512 * kPage);
}

TEST_F(FileSink, ReadErrorsAreNotDamage) {
  ASSERT_EQ(save(*file_sink(path_).value()), 0);
  for (int skip = 0; skip < 9; ++skip) {
    sys::inject(sys::Call::pread, EIO, skip);
    EXPECT_EQ(verify(path_).error().number, EIO) << skip;
  }
}

TEST_F(FileSink, RemovesWhatDeadProcessesLeft) {
  const pid_t child = ::fork();
  if (child == 0) {
    auto sink = file_sink(path_);
    if (!sink || !(*sink)->write(text_bytes("half"))) ::_exit(1);
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  ASSERT_EQ(folder_.names().size(), 1u);
  // Others that look much the same are not ours.
  for (const char* const name :
       {".image.tmp", ".image.12-0123456789abcde.tmp", "image.12-0123456789abcdef.tmp",
        ".image.x-0123456789abcdef.tmp", ".image.12-0123456789abcdeg.tmp"}) {
    write_file(folder_ / name, {});
  }
  const auto living = file_sink(folder_ / "other").value();
  ASSERT_EQ(folder_.names().size(), 6u);
  const auto sink = file_sink(path_).value();
  EXPECT_EQ(folder_.names().size(), 7u);
  EXPECT_TRUE(living->write(text_bytes("whole")));
  EXPECT_TRUE(living->commit());
  EXPECT_EQ(read_file(folder_ / "other"), text_bytes("whole"));
}

// Killed at any moment of many saves: what is there under the name is always a whole image.
TEST_F(FileSink, AKillNeverHarmsTheImageBefore) {
  ASSERT_EQ(save(*file_sink(path_).value(), 1), 0);
  std::mt19937 random(1);
  for (int i = 0; i < 60; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (;;) {
        auto sink = file_sink(path_);
        if (!sink || save(**sink, 1) != 0) ::_exit(1);
      }
    }
    ::usleep(static_cast<useconds_t>(random() % 30'000));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    const auto verified = verify(path_);
    ASSERT_TRUE(verified) << describe(verified.error());
    ASSERT_LE(folder_.names().size(), 2u);  // the next child removes what this one left
  }
  (void)file_sink(path_).value();
  EXPECT_THAT(folder_.names(), ElementsAre("image"));
}

/// A program's own sink, which throws once.
class ThrowingSink final : public Sink {
 public:
  Result<Done> write(std::span<const std::byte>) override {
    if (++writes == 2) throw std::runtime_error("full");
    return Done{};
  }
  Result<Done> commit() override { return Done{}; }
  void abandon() noexcept override { abandoned = true; }
  int writes = 0;
  bool abandoned = false;
};

TEST_F(FileSink, AnExceptionSticksToo) {
  ThrowingSink sink;
  const auto writer = ImageWriter::begin(sink, one_region(16, 1)).value();
  const Bytes page = written_pages(1, 1);
  const BlockRun run{0, 1, 0};
  EXPECT_THROW((void)writer->add({&run, 1}, page), std::runtime_error);
  EXPECT_EQ(writer->add({&run, 1}, page).error().number, EIO);
  EXPECT_EQ(writer->finish().error().number, EIO);
  make_image(path_, one_region(16, 2), {{0, 0, written_pages(4, 1)}});
  ThrowingSink merged;
  EXPECT_THROW((void)merge(path_, merged, Compression::none), std::runtime_error);
  EXPECT_TRUE(merged.abandoned);
}

TEST_F(FileSink, AForkedChildDoesNotRemoveItsParentsFile) {
  auto sink = file_sink(path_).value();
  ASSERT_TRUE(sink->write(text_bytes("parent")));
  const pid_t child = ::fork();
  if (child == 0) {
    sink.reset();
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(sink->commit());
  EXPECT_EQ(read_file(path_), text_bytes("parent"));
}

TEST_F(FileSink, SeveralBeginAtOnce) {
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const std::string name = folder_ / std::to_string(i);
      for (int n = 0; n < 100; ++n) {
        auto sink = file_sink(name);
        if (!sink || !(*sink)->write(text_bytes("x")) || !(*sink)->commit()) ++failures;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  EXPECT_THAT(folder_.names(), ElementsAre("0", "1", "2", "3"));
}

TEST_F(FileSink, RefusesWhatItWouldReplaceByMistake) {
  const auto refusal = [](const std::string& path) {
    const auto sink = file_sink(path);
    return sink ? 0 : sink.error().number;
  };
  EXPECT_EQ(refusal(""), ENOENT);
  EXPECT_EQ(refusal(folder_.path().string()), EISDIR);
  EXPECT_EQ(refusal(folder_ / ""), EISDIR);
  EXPECT_EQ(refusal(folder_ / "missing/image"), ENOENT);
  EXPECT_EQ(refusal("/dev/null"), EINVAL);
  EXPECT_EQ(refusal(folder_ / std::string(255, 'x')), 0);
}

TEST_F(FileSink, ZeroesAreHoles) {
  auto sink = file_sink(path_).value();
  ASSERT_TRUE(sink->write(text_bytes("begin")));
  ASSERT_TRUE(sink->write_zeroes(64 << 20));
  ASSERT_TRUE(sink->write(text_bytes("end")));
  ASSERT_TRUE(sink->write_zeroes(10));
  ASSERT_TRUE(sink->write_zeroes(1 << 20));
  ASSERT_TRUE(sink->commit());
  struct stat status {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_size, 5 + (64 << 20) + 3 + 10 + (1 << 20));
  EXPECT_LT(status.st_blocks * 512, 1 << 20);
}

// EFBIG, and no SIGXFSZ that would end the program.
TEST_F(FileSink, AFileSizeLimitIsAnError) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit limit{1 << 20, 1 << 20};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const auto sink = file_sink(path_).value();
    const bool as_expected = save(*sink) == EFBIG;
    sink->abandon();
    ::_exit(as_expected ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_THAT(folder_.names(), ElementsAre());
}

TEST_F(FileSink, AFullDiskIsAnError) {
  const std::string disk = folder_ / "disk";
  std::filesystem::create_directory(disk);
  if (::mount("none", disk.c_str(), "tmpfs", 0, "size=4m") != 0) {
    GTEST_SKIP() << "only root can mount a small disk";
  }
  write_file(disk + "/image", old_);
  auto sink = file_sink(disk + "/image").value();
  EXPECT_EQ(save(*sink), ENOSPC);
  sink.reset();
  EXPECT_EQ(read_file(disk + "/image"), old_);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(disk), {}), 1);
  EXPECT_EQ(::umount(disk.c_str()), 0);
}

TEST(DescriptorSink, WritesAnImageToAPipe) {
  const Folder folder;
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  ASSERT_EQ(::fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);  // it must wait by itself
  Bytes received;
  std::thread reader([&] {
    std::array<std::byte, 10000> buffer{};
    for (ssize_t length; (length = ::read(ends[0], buffer.data(), buffer.size())) > 0;) {
      received.insert(received.end(), buffer.begin(), buffer.begin() + length);
    }
  });
  EXPECT_EQ(save(*descriptor_sink(ends[1]).value()), 0);
  ::close(ends[1]);
  reader.join();
  ::close(ends[0]);
  write_file(folder / "image", received);
  EXPECT_TRUE(verify(folder / "image"));
  EXPECT_EQ(inspect(folder / "image").value().pages, 2048u);
}

std::atomic<int> g_signals{0};

TEST(DescriptorSink, AReaderThatHasGoneIsAnErrorAndNoSignal) {
  struct sigaction counting {};
  struct sigaction before {};
  counting.sa_handler = [](int) { ++g_signals; };
  ::sigaction(SIGPIPE, &counting, &before);
  for (const bool socket : {false, true}) {
    std::array<int, 2> ends{};
    ASSERT_EQ(socket ? ::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) : ::pipe(ends.data()), 0);
    ::close(ends[0]);
    const auto sink = descriptor_sink(ends[1]).value();
    EXPECT_EQ(save(*sink), EPIPE);
    EXPECT_EQ(g_signals, 0);
    sink->abandon();
    ::close(ends[1]);
  }
  // The program's own broken pipes still reach it.
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  ::close(ends[0]);
  EXPECT_EQ(::write(ends[1], "x", 1), -1);
  EXPECT_EQ(g_signals, 1);
  ::close(ends[1]);
  ::sigaction(SIGPIPE, &before, nullptr);
}

TEST(DescriptorSink, AFullDeviceIsAnError) {
  const sys::Descriptor full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(full.valid());
  EXPECT_EQ(save(*descriptor_sink(full.get()).value()), ENOSPC);
}

TEST(DescriptorSink, RefusesWhatCannotBeWritten) {
  EXPECT_EQ(descriptor_sink(-1).error().number, EBADF);
  const sys::Descriptor read_only(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(descriptor_sink(read_only.get()).error().number, EBADF);
}

}  // namespace
}  // namespace pagetrap::checkpoint::test
