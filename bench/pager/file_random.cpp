// pager.file_random: random reads of a file four times as large as the memory that may hold it.
//
// Both sides get the same memory: the pager's budget, and a memory control group of that size for
// the kernel's own mmap, in a process of its own whose page cache is charged to it. The pager reads
// with pread(2) from a page cache that is warm and that nobody's budget counts, as of a file that
// others use too, or a network file system's cache: parameters say so, and what a read costs from
// it.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>

#include <pagetrap/pager/pager.hpp>

#include "harness/cpus.hpp"
#include "harness/pairs.hpp"
#include "pager/questions.hpp"
#include "pager/roots.hpp"
#include "rivals/memory_group.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kBudget = 32_MiB;
constexpr std::size_t kFileBytes = 4 * kBudget;
constexpr std::uint64_t kReads = 2000;

/// A file of numbered words, without a name.
class NumberedFile {
 public:
  explicit NumberedFile(Report& report) {
    const char* const folder = std::getenv("TMPDIR");
    std::string path = std::string(folder != nullptr ? folder : "/var/tmp") + "/pagetrap-XXXXXX";
    file_ = ::mkostemp(path.data(), O_CLOEXEC);
    report.check(file_ >= 0, "no temporary file can be made");
    ::unlink(path.c_str());
    std::vector<std::uint64_t> words(1_MiB / sizeof(std::uint64_t));
    for (std::size_t at = 0; at < kFileBytes; at += 1_MiB) {
      for (std::size_t i = 0; i < words.size(); ++i) words[i] = at / sizeof words[0] + i;
      if (::pwrite(file_, words.data(), 1_MiB, static_cast<off_t>(at)) !=
          static_cast<ssize_t>(1_MiB))
        report.skip("no room for a file of 128 MiB in TMPDIR or /var/tmp");
    }
    report.check(::fsync(file_) == 0, "fsync of the file");
  }
  ~NumberedFile() { ::close(file_); }
  NumberedFile(const NumberedFile&) = delete;
  NumberedFile& operator=(const NumberedFile&) = delete;
  [[nodiscard]] int descriptor() const noexcept { return file_; }

 private:
  int file_ = -1;
};

/// A batch of random reads; -1: a word was wrong.
double read_batch(const volatile std::uint64_t* words, std::uint64_t& random) {
  const std::uint64_t pages = kFileBytes >> page_shift();
  const std::uint64_t in_page = page_size() / sizeof(std::uint64_t);
  std::uint64_t wrong = 0;
  const double elapsed = time_ns([&] {
    for (std::uint64_t i = 0; i < kReads; ++i) {
      const std::uint64_t at = next_random(random) % pages * in_page + i % in_page;
      wrong |= words[at] ^ at;
    }
  });
  return wrong == 0 ? elapsed / static_cast<double>(kReads) : -1;
}

/// mmap in a process of the group: a batch for each byte that it reads.
class MappedRival {
 public:
  MappedRival(const NumberedFile& file, const rivals::MemoryGroup& group, Report& report) {
    int to_child[2];
    int from_child[2];
    report.check(::pipe2(to_child, O_CLOEXEC) == 0 && ::pipe2(from_child, O_CLOEXEC) == 0,
                 "pipes to the rival");
    child_ = ::fork();
    report.check(child_ >= 0, "fork of the rival");
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::close(to_child[1]);
      ::close(from_child[0]);
      serve(file, group, to_child[0], from_child[1]);
    }
    ::close(to_child[0]);
    ::close(from_child[1]);
    ask_ = to_child[1];
    answer_ = from_child[0];
  }
  ~MappedRival() {
    ::close(ask_);
    ::close(answer_);
    int status = 0;
    while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
    }
  }
  MappedRival(const MappedRival&) = delete;
  MappedRival& operator=(const MappedRival&) = delete;

  /// The cost, or what went wrong as a negative number.
  double batch() const {
    double cost = -2;
    const char go = 0;
    if (::write(ask_, &go, 1) != 1 || ::read(answer_, &cost, sizeof cost) != sizeof cost) return -2;
    return cost;
  }

 private:
  [[noreturn]] static void serve(const NumberedFile& file, const rivals::MemoryGroup& group,
                                 int ask, int answer) {
    if (!group.join()) ::_exit(1);
    void* const mapped = ::mmap(nullptr, kFileBytes, PROT_READ, MAP_SHARED, file.descriptor(), 0);
    if (mapped == MAP_FAILED) ::_exit(1);
    ::madvise(mapped, kFileBytes, MADV_RANDOM);  // its best: no read-ahead of what is not read
    std::uint64_t random = 77;
    for (char go = 0; ::read(ask, &go, 1) == 1;) {
      const double cost = read_batch(static_cast<const volatile std::uint64_t*>(mapped), random);
      if (::write(answer, &cost, sizeof cost) != sizeof cost) ::_exit(1);
    }
    ::_exit(0);
  }

  pid_t child_ = -1;
  int ask_ = -1;
  int answer_ = -1;
};

void measure(const Effort& effort, Report& report) {
  pin_to_cpu(0);
  report.parameter("file_bytes", static_cast<double>(kFileBytes));
  report.parameter("budget_bytes", static_cast<double>(kBudget));
  report.parameter("our_page_cache", "warm, of another file's copy, not counted");
  report.parameter("rival_page_cache", "all in its group");
  const rivals::MemoryGroup group(kBudget);
  if (!group.there()) report.skip(group.reason());
  // A copy each: a page of the cache is charged to whoever reads it first.
  const NumberedFile ours(report);
  const NumberedFile theirs(report);
  ::posix_fadvise(theirs.descriptor(), 0, 0, POSIX_FADV_DONTNEED);
  auto source = pager::FileSource::open({.file = ours.descriptor(), .in_faulting_thread = true});
  report.check(static_cast<bool>(source), "FileSource::open");
  const auto engine = pager::Pager::create({.budget_bytes = kBudget, .helper_thread = false});
  report.check(static_cast<bool>(engine), "Pager::create");
  const auto region = pager::Region::create(**engine, kFileBytes, *source);
  report.check(static_cast<bool>(region), "pager::Region::create");
  const MappedRival rival(theirs, group, report);
  std::uint64_t random = 78;
  // Both fill their memory before anything counts.
  for (int i = 0; i < 10; ++i) {
    report.check(
        read_batch(reinterpret_cast<const volatile std::uint64_t*>(region->data()), random) >= 0,
        "the pager showed a wrong word");
    report.check(rival.batch() >= 0, "the rival died, or read a wrong word");
  }
  interleave(
      with_fewer_pairs(effort, 5), report,
      [&] {
        const double cost =
            read_batch(reinterpret_cast<const volatile std::uint64_t*>(region->data()), random);
        report.check(cost >= 0, "the pager showed a wrong word");
        return cost;
      },
      [&] {
        const double cost = rival.batch();
        report.check(cost >= 0, "the rival died, or read a wrong word");
        return cost;
      });
  const auto seen = region->statistics();
  report.parameter("our_resident_pages", static_cast<double>(seen.resident_pages));
}

}  // namespace

void add_file_random(Questions& questions) {
  questions.push_back({.id = "pager.file_random",
                       .asks = "a random 4 KiB read of a file four times the memory",
                       .ours = "pager::Region over a FileSource, pread in the faulting thread",
                       .rival = "mmap in a memory control group of the same size",
                       .unit = "ns",
                       .target = 1.0,
                       .measure = measure});
}

}  // namespace pagetrap::bench
