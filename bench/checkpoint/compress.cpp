// checkpoint.compress: a heap full of text, saved with LZ4 by all processors, against a pipe into
// gzip -1, as programs have written their state since there are pipes.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "checkpoint/heaps.hpp"
#include "checkpoint/questions.hpp"
#include "harness/text_files.hpp"

namespace pagetrap::bench {

namespace {

/// Text files of the machine one after the other, each once: how many bytes.
std::size_t fill_with_text(std::byte* heap, std::size_t size_bytes) {
  std::size_t filled = 0;
  for (const std::filesystem::path& path : text_files()) {
    std::ifstream file(path, std::ios::binary);
    file.read(reinterpret_cast<char*>(heap + filled),
              static_cast<std::streamsize>(size_bytes - filled));
    filled += static_cast<std::size_t>(file.gcount());
    if (filled == size_bytes) break;
  }
  return filled;
}

/// gzip -1 with its standard input at the end of a pipe, and nowhere for its output to go.
double pipe_to_gzip(const std::byte* data, std::size_t size_bytes, Report& report) {
  std::array<int, 2> ends{};
  report.check(pipe2(ends.data(), O_CLOEXEC) == 0, "pipe");
  fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
  const double begin = now_ns();
  const pid_t gzip = fork();
  if (gzip == 0) {
    const int null = open("/dev/null", O_WRONLY);
    dup2(ends[0], 0);
    dup2(null, 1);
    execlp("gzip", "gzip", "-1", "-c", nullptr);
    _exit(127);
  }
  close(ends[0]);
  for (std::size_t done = 0; done < size_bytes;) {
    const ssize_t length = write(ends[1], data + done, std::min(size_bytes - done, kMiB));
    if (length <= 0) break;
    done += static_cast<std::size_t>(length);
  }
  close(ends[1]);
  int status = 0;
  waitpid(gzip, &status, 0);
  const double elapsed = now_ns() - begin;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127) report.skip("there is no gzip here");
  report.check(status == 0, "gzip failed");
  return elapsed;
}

void measure(const Effort& effort, Report& report) {
  checkpoint::CheckpointerOptions options;
  options.compression = checkpoint::Compression::lz4;
  require_cut(report, options);
  const std::size_t size = (effort.quick ? 48 : 160) * kMiB;
  ArenaHeap heap(size, options, report);
  std::memset(heap.data(), 0, heap.size_bytes());
  const std::size_t text = fill_with_text(heap.data(), heap.size_bytes());
  if (text < 16 * kMiB) report.skip("not enough text in /usr/include and /usr/share/doc");
  report.parameter("bytes", static_cast<double>(text));
  const int pairs = effort.quick ? 2 : 9;
  double image_bytes = 0;
  for (int i = -1; i < pairs; ++i) {
    NullSink sink;
    checkpoint::SaveOptions whole;
    whole.full = true;
    const double begin = now_ns();
    const auto saved = heap.checkpointer().checkpoint(sink, whole);
    const double ours = now_ns() - begin;
    if (!saved) report.fail(describe(saved.error()));
    image_bytes = static_cast<double>(saved->bytes);
    const double rival = pipe_to_gzip(heap.data(), text, report);
    if (i >= 0) report.pair(ours, rival);
  }
  report.parameter("image_bytes", image_bytes);
}

}  // namespace

void add_compress(Questions& questions) {
  questions.push_back({.id = "checkpoint.compress",
                       .asks = "a compressed image of a heap full of text",
                       .ours = "checkpoint with LZ4",
                       .rival = "gzip -1 at the end of a pipe",
                       .unit = "ns",
                       .target = 0.1,
                       .measure = measure,
                       .scheduling = Scheduling::fair_group,
                       .bound = "LZ4 itself, on the CPUs there are"});
}

}  // namespace pagetrap::bench
