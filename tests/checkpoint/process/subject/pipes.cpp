#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "stage.hpp"

namespace subject {
namespace {

struct Pipe {
  int out;
  int in;
};
Pipe make_pipe(int flags) {
  std::array<int, 2> ends{};
  must(::pipe2(ends.data(), flags), "pipe2");
  return {ends[0], ends[1]};
}

std::string read_from(int descriptor, std::size_t most) {
  std::string bytes(most, '\0');
  const ssize_t got = ::read(descriptor, bytes.data(), bytes.size());
  if (got < 0) return "errno " + std::to_string(errno);
  bytes.resize(static_cast<std::size_t>(got));
  return bytes;
}

std::string pattern(std::size_t length) {
  std::string bytes(length, '\0');
  for (std::size_t i = 0; i < length; ++i) bytes[i] = static_cast<char>(i * 7 + i / 256);
  return bytes;
}

void put(int descriptor, const std::string& bytes) {
  must(::write(descriptor, bytes.data(), bytes.size()), "write");
}

const Registered kPipes("pipes", [](Stage& stage) {
  const Pipe empty = make_pipe(0);
  const Pipe some = make_pipe(O_CLOEXEC);
  put(some.in, "some bytes");
  read_from(some.out, 5);
  const Pipe waiting = make_pipe(O_NONBLOCK);
  const int second = static_cast<int>(must(::dup(some.in), "dup"));
  stage.wait_for_go();
  stage.expect(read_from(some.out, 99) == "bytes", "contents");
  stage.expect((::fcntl(some.out, F_GETFD) & FD_CLOEXEC) != 0, "close-on-exec");
  put(second, "second");
  stage.expect(read_from(some.out, 99) == "second", "a copy of the writing end");
  stage.expect(read_from(waiting.out, 1) == "errno " + std::to_string(EAGAIN), "O_NONBLOCK");
  put(waiting.in, "x");
  stage.expect(read_from(waiting.out, 9) == "x", "an empty one that does not wait");
  put(empty.in, "y");
  stage.expect(read_from(empty.out, 9) == "y", "an empty one");
  ::close(second);
  ::close(some.in);
  stage.expect(read_from(some.out, 9).empty(), "its end, when all writing ends are closed");
});

const Registered kFull("full_pipe", [](Stage& stage) {
  const Pipe full = make_pipe(O_NONBLOCK);
  const std::string bytes = pattern(65536);
  put(full.in, bytes);
  const Pipe slots = make_pipe(O_NONBLOCK);  // full of writes that share no page
  std::string all;
  for (;;) {
    const std::string piece = pattern(2500 + all.size() % 100);
    if (::write(slots.in, piece.data(), piece.size()) != static_cast<ssize_t>(piece.size())) break;
    all += piece;
  }
  stage.wait_for_go();
  stage.expect(::write(full.in, "x", 1) == -1 && errno == EAGAIN, "it is full");
  stage.expect(read_from(full.out, 1 << 20) == bytes, "64 KiB");
  stage.expect(read_from(slots.out, 1 << 20).starts_with(all), "pages that are not full");
});

const Registered kHalf("half_closed_pipes", [](Stage& stage) {
  ::signal(SIGPIPE, SIG_IGN);
  const Pipe no_writer = make_pipe(0);
  put(no_writer.in, "last words");
  ::close(no_writer.in);
  const Pipe no_reader = make_pipe(0);
  put(no_reader.in, "nobody reads");
  ::close(no_reader.out);
  stage.wait_for_go();
  stage.expect(read_from(no_writer.out, 99) == "last words", "contents without a writer");
  stage.expect(read_from(no_writer.out, 99).empty(), "the end of it");
  stage.expect(::write(no_reader.in, "x", 1) == -1 && errno == EPIPE, "no reader");
});

const Registered kPackets("packets", [](Stage& stage) {
  const Pipe pipe = make_pipe(O_DIRECT | O_NONBLOCK);
  put(pipe.in, "one");
  put(pipe.in, "two and");
  put(pipe.in, std::string(4096, 'p'));
  put(pipe.in, "four");
  stage.wait_for_go();
  stage.expect((::fcntl(pipe.in, F_GETFL) & O_DIRECT) != 0, "O_DIRECT");
  stage.expect(read_from(pipe.out, 9999) == "one", "the first packet");
  stage.expect(read_from(pipe.out, 3) == "two", "a packet that is not read whole");
  stage.expect(read_from(pipe.out, 9999) == std::string(4096, 'p'), "a packet of a page");
  stage.expect(read_from(pipe.out, 9999) == "four", "the last packet");
  put(pipe.in, "a");
  put(pipe.in, "b");
  stage.expect(read_from(pipe.out, 9999) == "a", "packets after it");
});

const Registered kLarge("large_pipe", [](Stage& stage) {
  const Pipe pipe = make_pipe(O_NONBLOCK);
  if (::fcntl(pipe.in, F_SETPIPE_SZ, 4 << 20) < 0)
    stage.skip("pipes of 4 MiB are not for this user");
  const std::string bytes = pattern(3 << 20);
  put(pipe.in, bytes);
  stage.wait_for_go();
  stage.expect(::fcntl(pipe.out, F_GETPIPE_SZ) == 4 << 20, "capacity");
  std::string got;
  while (got.size() < bytes.size()) {
    const std::string more = read_from(pipe.out, 4 << 20);
    if (more.starts_with("errno")) break;
    got += more;
  }
  stage.expect(got == bytes, "contents of 3 MiB");
});

}  // namespace
}  // namespace subject
