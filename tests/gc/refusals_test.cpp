// Want of memory at every call of the kernel: a heap is not made and nothing is left of it, or its
// objects are what they were.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include <pagetrap/gc/gc.hpp>

#include "gc/supplies.hpp"
#include "sys/injection.hpp"

namespace pagetrap {
namespace {

using sys::Call;

struct Refusal {
  Call call;
  const char* name;
  int error;
};
constexpr std::array<Refusal, 16> kRefusals = {{
    {Call::mmap, "mmap", ENOMEM},
    {Call::mprotect, "mprotect", ENOMEM},
    {Call::madvise, "madvise", ENOMEM},
    {Call::madvise, "madvise", EAGAIN},
    {Call::memfd_create, "memfd_create", ENFILE},
    {Call::userfaultfd, "userfaultfd", ENFILE},
    {Call::uffd_register, "uffd_register", ENOMEM},
    {Call::uffd_write_protect, "uffd_write_protect", EAGAIN},
    {Call::uffd_copy, "uffd_copy", ENOMEM},
    {Call::uffd_copy, "uffd_copy", EAGAIN},
    {Call::uffd_zero, "uffd_zero", ENOMEM},
    {Call::uffd_continue, "uffd_continue", ENOMEM},
    {Call::uffd_continue, "uffd_continue", EAGAIN},
    {Call::uffd_move, "uffd_move", EBUSY},
    {Call::pagemap_scan, "pagemap_scan", ENOMEM},
    {Call::mremap, "mremap", ENOMEM},
}};

class Injected {
 public:
  Injected(const Refusal& refusal, int skip, int times) {
    sys::inject(refusal.call, refusal.error, skip, times);
  }
  ~Injected() { sys::inject(Call::none, 0); }
  Injected(const Injected&) = delete;
  Injected& operator=(const Injected&) = delete;
};

struct Link : gc::object<Link> {
  gc::ref<Link> next;
  gc::ref<gc::array<gc::ref<Link>>> row;
  std::uint64_t number = 0;
  static constexpr auto members = gc::members(&Link::next, &Link::row);
};

std::size_t open_files() {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    static_cast<void>(entry);
    ++count;
  }
  return count;
}

class Refusals : public testing::TestWithParam<gc::PageSupply> {
 protected:
  static gc::Options options() {
    gc::Options options;
    options.supply = GetParam();
    options.nursery_bytes = 256_KiB;
    options.limit_bytes = 128_MiB;
    options.growth = 0.5;
    options.growth_bytes = 1_MiB;
    return options;
  }
  static bool is_there() {
    const auto heap = gc::Heap::create(options());
    return heap || heap.error().number != ENOTSUP;
  }
};

TEST_P(Refusals, AHeapIsMadeOrNothingIsLeftOfIt) {
  if (!is_there()) GTEST_SKIP() << "this kernel has no such supply";
  const std::size_t files = open_files();
  std::size_t refused = 0;
  for (const Refusal& refusal : kRefusals) {
    for (int skip = 0; skip < 24; ++skip) {
      const Injected injected(refusal, skip, 1);
      const auto heap = gc::Heap::create(options());
      if (heap) continue;
      ++refused;
      EXPECT_NE(std::string(heap.error().operation), "") << refusal.name << " after " << skip;
      EXPECT_NE(heap.error().number, 0);
    }
    EXPECT_LE(open_files(), files + 1) << refusal.name;
  }
  EXPECT_GT(refused, 5U);
}

// What the program does here is what it wants memory for; a refusal may come to it as an exception.
class Program {
 public:
  explicit Program(gc::Heap& heap) : heap_(heap), chain_(heap) {}

  void grow() {
    try {
      for (int i = 0; i < 3000; ++i) {
        Link* const link = heap_.make<Link>();
        link->number = length_;
        link->next = chain_.get();
        if (i % 100 == 0) {
          auto* const row = heap_.make_array<gc::ref<Link>>(i % 1000 == 0 ? 2000 : 20);
          (*row)[7] = link;
          link->row = row;
        }
        chain_ = link;
        ++length_;
      }
    } catch (const std::bad_alloc&) {
      ++exceptions;
    } catch (const SystemError&) {
      ++exceptions;
    }
  }
  void collect(bool full) {
    try {
      heap_.collect(full);
    } catch (const SystemError&) {
      ++exceptions;
    }
  }
  /// Writes to all.
  void check() {
    std::uint64_t expected = length_;
    for (Link* link = chain_; link != nullptr; link = link->next) {
      ASSERT_EQ(link->number, --expected);
      if (link->row != nullptr) {
        ASSERT_EQ((*link->row)[7], link);
      }
      if (link->number % 50 == 0) link->next = link->next.get();
    }
    ASSERT_EQ(expected, 0U);
  }
  void forget_half() {
    std::uint64_t left = length_ / 2;
    Link* link = chain_;
    while (left > 0) {
      link = link->next;
      --left;
    }
    length_ -= length_ / 2;
    chain_ = link;
  }
  int exceptions = 0;

 private:
  gc::Heap& heap_;
  gc::root<Link> chain_;
  std::uint64_t length_ = 0;
};

TEST_P(Refusals, ObjectsAreWhatTheyWere) {
  if (!is_there()) GTEST_SKIP() << "this kernel has no such supply";
  for (const Refusal& refusal : kRefusals) {
    gc::Heap heap(options());
    gc::Mutator here(heap);
    Program program(heap);
    for (int i = 0; i < 10; ++i) program.grow();
    for (int round = 0; round < 16; ++round) {
      {
        // One at a time, and many in a row.
        const Injected injected(refusal, round * 3 % 50, round % 2 == 0 ? 1 : 20);
        program.grow();
        program.collect(round % 3 == 0);
      }
      ASSERT_NO_FATAL_FAILURE(program.check()) << refusal.name << " in round " << round;
      if (round % 8 == 7) program.forget_half();
    }
    // When memory is back everything is as it should be.
    program.exceptions = 0;
    program.grow();
    program.collect(true);
    EXPECT_EQ(program.exceptions, 0) << refusal.name;
    ASSERT_NO_FATAL_FAILURE(program.check()) << refusal.name;
  }
}

INSTANTIATE_TEST_SUITE_P(, Refusals, testing::ValuesIn(tested_supplies()),
                         [](const auto& which) { return test_name(which.param); });

}  // namespace
}  // namespace pagetrap
