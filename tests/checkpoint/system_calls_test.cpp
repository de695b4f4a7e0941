// System calls that write into memory that is being saved: the data is right, or the call says
// EFAULT and has taken nothing from a stream.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <thread>

#include "checkpoint/slow_sink.hpp"
#include "checkpoint/support.hpp"
#include "hazards/ring.hpp"

namespace pagetrap::checkpoint {
namespace {

constexpr std::size_t kHeap = std::size_t{16} << 20;
constexpr std::size_t kChunk = 8192;

// One way to have the kernel write kChunk bytes of 0x5b to `to`. Returns as read(2) does.
struct Call {
  const char* name;
  ssize_t (*run)(const std::string& file, void* to);
};

ssize_t by_read(const std::string& file, void* to) {
  const int opened = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  const ssize_t got = ::read(opened, to, kChunk);
  const int error = errno;
  ::close(opened);
  errno = error;
  return got;
}
ssize_t by_direct_read(const std::string& file, void* to) {
  const int opened = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  if (opened < 0) return by_read(file, to);  // tmpfs
  const ssize_t got = ::pread(opened, to, kChunk, 0);
  const int error = errno;
  ::close(opened);
  errno = error;
  return got;
}
ssize_t by_recv(const std::string&, void* to) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return -1;
  std::vector<char> data(kChunk, 0x5b);
  static_cast<void>(::send(ends[0], data.data(), data.size(), 0));
  ssize_t got = ::recv(ends[1], to, kChunk, MSG_WAITALL);
  const int error = errno;
  if (got < 0) {
    // Refused: nothing of the stream is lost.
    std::vector<char> again(kChunk);
    EXPECT_EQ(::recv(ends[1], again.data(), again.size(), MSG_WAITALL),
              static_cast<ssize_t>(kChunk));
    EXPECT_EQ(again, data);
  }
  ::close(ends[0]);
  ::close(ends[1]);
  errno = error;
  return got;
}
ssize_t by_process_vm_writev(const std::string&, void* to) {
  std::vector<char> data(kChunk, 0x5b);
  const iovec local{data.data(), data.size()};
  const iovec remote{to, data.size()};
  return ::process_vm_writev(::getpid(), &local, 1, &remote, 1, 0);
}
ssize_t by_io_uring(const std::string& file, void* to) {
  hazards::Ring ring;
  if (!ring.there()) return by_read(file, to);
  const int opened = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  const int got = ring.read(IORING_OP_READ, opened, static_cast<std::byte*>(to), kChunk);
  ::close(opened);
  errno = got < 0 ? -got : 0;
  return got < 0 ? -1 : got;
}

constexpr Call kCalls[] = {{"read", by_read},
                           {"O_DIRECT", by_direct_read},
                           {"recv", by_recv},
                           {"process_vm_writev", by_process_vm_writev},
                           {"io_uring", by_io_uring}};

class SystemCalls : public ::testing::TestWithParam<Way> {};

TEST_P(SystemCalls, IntoMemoryThatIsBeingSaved) {
  auto checkpointer = Checkpointer::create(options_for(GetParam()));
  if (!checkpointer) GTEST_SKIP() << describe(checkpointer.error());
  if (GetParam().kernel_accesses && !checkpointer->serves_kernel_accesses())
    GTEST_SKIP() << "this user may not serve system calls";
  Arena& arena = *checkpointer->arena("heap", 2 * kHeap).value();
  auto* const heap = static_cast<unsigned char*>(arena.resource()->allocate(kHeap, 4096));
  const auto offset =
      static_cast<std::size_t>(reinterpret_cast<std::byte*>(heap) - arena.range().base);
  const Folder folder;
  const std::string file = folder.file("data");
  std::ofstream(file) << std::string(kChunk, 0x5b);
  for (const Call& call : kCalls) {
    SCOPED_TRACE(call.name);
    for (std::size_t i = 0; i < kHeap; ++i) heap[i] = static_cast<unsigned char>(1 + i % 200);
    const std::string path = folder.file("image.ckpt");
    auto sink = std::make_unique<SlowSink>(file_sink(path).value());
    SlowSink& slow = *sink;
    SaveOptions how;
    how.full = true;
    auto saving = checkpointer->checkpoint_async(std::move(sink), how);
    slow.wait_until_stopped();
    // The worker stands still: far behind, the heap is as the cut left it.
    std::thread helper([&] {
      ::usleep(20'000);
      slow.let_go();
    });
    unsigned char* const to = heap + kHeap - 16 * kChunk;
    const ssize_t got = call.run(file, to);
    const int error = errno;
    slow.let_go();
    helper.join();
    const auto saved = saving.get();
    ASSERT_TRUE(saved) << describe(saved.error());
    const bool complete = got == static_cast<ssize_t>(kChunk);
    if (GetParam().kernel_accesses) {
      EXPECT_TRUE(complete) << got << ' ' << std::strerror(error);
    } else if (!complete) {
      EXPECT_TRUE(got >= 0 || error == EFAULT) << got << ' ' << std::strerror(error);
    }
    for (std::size_t i = 0; complete && i < kChunk; ++i) ASSERT_EQ(to[i], 0x5b) << i;
    const auto image = contents(path, "heap", offset + kHeap);
    for (std::size_t i = 0; i < kHeap; ++i)
      ASSERT_EQ(static_cast<unsigned char>(image[offset + i]), 1 + i % 200) << i;
    // The next increment has it.
    const std::string next = folder.file("next.ckpt");
    auto plain = file_sink(next).value();
    ASSERT_TRUE(checkpointer->checkpoint(*plain));
    const auto after = contents(next, "heap", offset + kHeap);
    EXPECT_EQ(std::memcmp(after.data() + offset, heap, kHeap), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoint, SystemCalls, ::testing::ValuesIn(kWays), way_name);

}  // namespace
}  // namespace pagetrap::checkpoint
