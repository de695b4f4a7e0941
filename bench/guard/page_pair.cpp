// guard.page.pair: what bounds guard.page.cpu. A freed block is out of reach when free() returns,
// and the next one has a page: that takes one system call at least, which moves the page.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include <pagetrap/core/units.hpp>
#include <pagetrap/guard/heap.hpp>

#include "guard/questions.hpp"
#include "harness/clock.hpp"
#include "harness/pairs.hpp"
#include "harness/report.hpp"

namespace pagetrap::bench {

namespace {

constexpr std::size_t kPairs = 20'000;

// Newer than the headers that we may be built with.
struct MovePages {
  std::uint64_t to, from, size, mode;
  std::int64_t moved;
};
constexpr unsigned long kMove = _IOWR(UFFDIO, 0x05, MovePages);

/// Two pages, of which one is there, and moves.
class TwoPages {
 public:
  explicit TwoPages(Report& report)
      : report_(report),
        descriptor_(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY))),
        memory_(static_cast<char*>(::mmap(nullptr, 2 * page_size(), PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    uffdio_api api{UFFD_API, UFFD_FEATURE_SIGBUS, 0};
    uffdio_register all{{address(0), 2 * page_size()}, UFFDIO_REGISTER_MODE_MISSING, 0};
    uffdio_zeropage first{{address(0), page_size()}, 0, 0};
    if (descriptor_ < 0 || memory_ == MAP_FAILED || ::ioctl(descriptor_, UFFDIO_API, &api) != 0 ||
        ::ioctl(descriptor_, UFFDIO_REGISTER, &all) != 0 ||
        ::ioctl(descriptor_, UFFDIO_ZEROPAGE, &first) != 0)
      report.skip("no userfaultfd here");
    memory_[0] = 1;
  }
  ~TwoPages() {
    ::munmap(memory_, 2 * page_size());
    ::close(descriptor_);
  }
  TwoPages(const TwoPages&) = delete;
  TwoPages& operator=(const TwoPages&) = delete;

  void move(std::size_t from, std::size_t to) {
    MovePages pages{address(to), address(from), page_size(), 0, 0};
    if (::ioctl(descriptor_, kMove, &pages) != 0) report_.skip("no UFFDIO_MOVE: Linux 6.8");
    memory_[to * page_size()] = 2;
  }

 private:
  [[nodiscard]] std::uint64_t address(std::size_t page) const {
    return reinterpret_cast<std::uintptr_t>(memory_) + page * page_size();
  }
  Report& report_;
  int descriptor_;
  char* memory_;
};

void measure(const Effort& effort, Report& report) {
  auto heap = guard::Heap::create();
  if (!heap) report.skip(describe(heap.error()));
  if (heap->statistics().mechanism != guard::Mechanism::userfaultfd)
    report.skip("no userfaultfd here");
  TwoPages pages(report);
  const auto by_kernel = [&] {
    return time_ns([&] {
             for (std::size_t i = 0; i < kPairs / 2; ++i) {
               pages.move(0, 1);
               pages.move(1, 0);
             }
           }) /
           static_cast<double>(kPairs);
  };
  const auto by_us = [&] {
    return time_ns([&] {
             for (std::size_t i = 0; i < kPairs; ++i) {
               auto* const block = static_cast<volatile char*>(heap->allocate(32));
               *block = 1;
               heap->release(const_cast<char*>(block));
             }
           }) /
           static_cast<double>(kPairs);
  };
  interleave(effort, report, by_us, by_kernel);
}

}  // namespace

void add_page_pair(Questions& questions) {
  questions.push_back({.id = "guard.page.pair",
                       .asks = "a block from malloc to free, written once, with two stacks kept",
                       .ours = "page",
                       .rival = "UFFDIO_MOVE and a write: the least that it takes",
                       .unit = "ns",
                       .target = 1.5,
                       .measure = measure});
}

}  // namespace pagetrap::bench
