// checkpoint.save_file_1g: a checkpoint in a file, made permanent, against the least that could do
// it: write(2) of the same bytes, and fsync(2). The program stands still on both sides.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "checkpoint/heaps.hpp"
#include "checkpoint/image_file.hpp"
#include "checkpoint/questions.hpp"

namespace pagetrap::bench {

namespace {

double write_all(const std::string& path, const std::byte* data, std::size_t size_bytes,
                 Report& report) {
  const double begin = now_ns();
  const int file = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
  report.check(file >= 0, "a file cannot be made");
  for (std::size_t done = 0; done < size_bytes;) {
    const ssize_t length = write(file, data + done, std::min(size_bytes - done, kMiB));
    report.check(length > 0, "write failed");
    done += static_cast<std::size_t>(length);
  }
  report.check(fsync(file) == 0, "fsync failed");
  const double elapsed = now_ns() - begin;
  close(file);
  unlink(path.c_str());
  return elapsed;
}

void measure(const Effort& effort, Report& report) {
  require_cut(report, {});
  require_memory(report, static_cast<double>(kGiB) * 4);
  const ScratchDirectory scratch(report);
  scratch.require(static_cast<double>(kGiB) * 3);
  ArenaHeap heap(kGiB, {}, report);
  report.parameter("bytes", static_cast<double>(heap.size_bytes()));
  for (int i = 0; i < (effort.quick ? 1 : 5); ++i) {
    const auto save = [&] {
      const std::string path = scratch.file("image.ckpt");
      const double begin = now_ns();
      const auto sink = checkpoint::file_sink(path).value();
      heap.save(*sink);
      const double elapsed = now_ns() - begin;
      unlink(path.c_str());
      return elapsed;
    };
    const auto copy = [&] {
      return write_all(scratch.file("plain"), heap.data(), heap.size_bytes(), report);
    };
    double ours = 0;
    double rival = 0;
    if (i % 2 == 0) {
      rival = copy();
      ours = save();
    } else {
      ours = save();
      rival = copy();
    }
    report.pair(ours, rival);
  }
}

}  // namespace

void add_save_file(Questions& questions) {
  questions.push_back({.id = "checkpoint.save_file_1g",
                       .asks = "a checkpoint of 1 GiB in a file, until it is on the disk",
                       .ours = "checkpoint to a file, fsync",
                       .rival = "write(2) of the same memory, fsync",
                       .unit = "ns",
                       .target = 1.3,
                       .measure = measure,
                       .scheduling = Scheduling::fair_group});
}

}  // namespace pagetrap::bench
