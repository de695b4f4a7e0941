// Guard heaps and regions of the ground floor in one process: both own SIGSEGV and SIGBUS, and each
// passes on what is not its own, whoever came first.
#include <pagetrap/guard/heap.hpp>

#include "hazards/support.hpp"

namespace pagetrap::guard {
namespace {

using namespace hazards;

struct Together {
  BackendId backend;
  bool region_first;
};

class WithRegions : public testing::TestWithParam<Together> {
 protected:
  // A region of two pages, of which the first is protected, and a heap with a block.
  struct Both {
    Region region;
    Opener opener;
    Heap heap;
    char* block = nullptr;

    explicit Both(const Together& how) {
      if (how.region_first) make_region(how.backend);
      heap = must(Heap::create(), "heap");
      if (!how.region_first) make_region(how.backend);
      block = static_cast<char*>(heap.allocate(21));
      std::memset(block, 'x', 21);
    }
    void make_region(BackendId backend) {
      region =
          must(Region::create(2 * page_size(), options_for(backend, FaultKind::write_protected)),
               "region");
      must(region.on_fault(Opener::open, &opener), "on_fault");
      must(region.protect(region.range(), Access::read), "protect");
    }
  };
};

TEST_P(WithRegions, FaultsOfRegionsAreServed) {
  EXPECT_EQ(kSucceeded, in_child([] {
              Both both(GetParam());
              store(both.region.data(), 7);
              require(both.opener.faults.load() == 1, "the region's fault reached its handler");
              both.block[20] = 'y';
              both.heap.release(both.block);
              store(both.region.data() + page_size(), 7);
              require(both.opener.faults.load() == 2, "and the next one");
            }));
}

TEST_P(WithRegions, WrongAccessesAreReported) {
  EXPECT_EQ(exited(66), in_child([] {
              Both both(GetParam());
              store(both.region.data(), 7);
              static_cast<volatile char*>(both.block)[23] = 1;
            }));
  EXPECT_EQ(exited(66), in_child([] {
              Both both(GetParam());
              both.heap.release(both.block);
              static_cast<void>(static_cast<volatile char*>(both.block)[3]);
            }));
}

// Nobody's: the default action.
TEST_P(WithRegions, OthersKill) {
  EXPECT_EQ(killed_by(SIGSEGV), in_child([] {
              Both both(GetParam());
              store(foreign_pages(1, PROT_NONE), 1);
            }));
}

INSTANTIATE_TEST_SUITE_P(Guard, WithRegions,
                         testing::Values(Together{BackendId::mprotect, false},
                                         Together{BackendId::mprotect, true},
                                         Together{BackendId::uffd_inline, false},
                                         Together{BackendId::uffd_inline, true}),
                         [](const auto& one) {
                           return std::string(one.param.backend == BackendId::mprotect ? "segv"
                                                                                       : "bus") +
                                  (one.param.region_first ? "_region_first" : "_heap_first");
                         });

}  // namespace
}  // namespace pagetrap::guard
