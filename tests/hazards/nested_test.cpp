// Handlers that fault themselves.
#include <setjmp.h>

#include "hazards/support.hpp"

namespace pagetrap::hazards {
namespace {

// Page i of `region` is opened after page i + 1 of `next` was written, `depth` pages long.
struct Ladder {
  Region* next = nullptr;
  std::size_t depth = 0;
  std::atomic<int> faults{0};
  std::atomic<int> deepest{0};
  static Verdict climb(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
    auto& ladder = *static_cast<Ladder*>(self);
    ladder.faults.fetch_add(1);
    const auto index =
        static_cast<std::size_t>(fault.page.base - fault.region->data()) / page_size();
    if (index + 1 < ladder.depth) {
      store(page_at(*ladder.next, index + 1).base, static_cast<unsigned>(index + 1));
      ladder.deepest.fetch_add(1);
    }
    return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
  }
};

constexpr std::size_t kDepth = 6;

TEST(Nested, AHandlerMayFaultInItsOwnRegionManyDeep) {
  for (const FaultKind kind : {FaultKind::missing, FaultKind::write_protected}) {
    for (const BackendId id : inline_backends_for(kind)) {
      SCOPED_TRACE(name(id));
      EXPECT_EQ(kSucceeded, in_child([id, kind] {
                  Region region =
                      must(Region::create(kDepth * page_size(), options_for(id, kind)), "create");
                  Ladder ladder{&region, kDepth, {}, {}};
                  must(region.on_fault(Ladder::climb, &ladder), "on_fault");
                  if (kind == FaultKind::write_protected)
                    must(region.protect(region.range(), Access::read), "protect");
                  store(region.data(), 42);
                  require(ladder.faults == kDepth, "a fault for each page");
                  require(ladder.deepest == kDepth - 1, "each inside the one before");
                  for (std::size_t i = 1; i < kDepth; ++i)
                    require(load(page_at(region, i).base) == i, "values");
                  require(load(region.data()) == 42, "value of the outermost");
                }));
    }
  }
}

TEST(Nested, AHandlerMayFaultInARegionOfAnotherBackend) {
  for (const BackendId outer : inline_backends_for(FaultKind::missing)) {
    for (const BackendId inner : backends_for(FaultKind::missing)) {
      SCOPED_TRACE(std::string(name(outer)) + " then " + name(inner));
      EXPECT_EQ(
          kSucceeded, in_child([outer, inner] {
            Region first = must(
                Region::create(2 * page_size(), options_for(outer, FaultKind::missing)), "outer");
            Region second = must(
                Region::create(2 * page_size(), options_for(inner, FaultKind::missing)), "inner");
            Ladder ladder{&second, 2, {}, {}};
            Opener opener;
            must(first.on_fault(Ladder::climb, &ladder), "on_fault");
            must(second.on_fault(Opener::open, &opener), "on_fault");
            store(first.data(), 5);
            require(ladder.faults == 1 && opener.faults == 1, "one fault each");
            require(load(page_at(second, 1).base) == 1 && load(first.data()) == 5, "values");
          }));
    }
  }
}

// A handler thread that touches a page served by itself would wait for itself: two are needed.
TEST(Nested, HandlerThreadsMayFaultIfAnotherOneServes) {
  if (!capabilities(BackendId::uffd_thread, Backing::anonymous).handler_thread)
    GTEST_SKIP() << "no userfaultfd here";
  EXPECT_EQ(kSucceeded, in_child([] {
              RegionOptions options = options_for(BackendId::uffd_thread, FaultKind::missing);
              options.handler_threads = 2;
              Region region = must(Region::create(2 * page_size(), options), "create");
              Ladder ladder{&region, 2, {}, {}};
              must(region.on_fault(Ladder::climb, &ladder), "on_fault");
              store(region.data(), 5);
              require(ladder.faults == 2, "a fault each");
              require(load(page_at(region, 1).base) == 1 && load(region.data()) == 5, "values");
            }));
}

TEST(Nested, AHandlerInAHandlerThreadMayFaultInThread) {
  if (!capabilities(BackendId::uffd_thread, Backing::anonymous).handler_thread)
    GTEST_SKIP() << "no userfaultfd here";
  for (const BackendId inner : inline_backends_for(FaultKind::missing)) {
    SCOPED_TRACE(name(inner));
    EXPECT_EQ(kSucceeded, in_child([inner] {
                Region first =
                    must(Region::create(2 * page_size(),
                                        options_for(BackendId::uffd_thread, FaultKind::missing)),
                         "outer");
                Region second =
                    must(Region::create(2 * page_size(), options_for(inner, FaultKind::missing)),
                         "inner");
                Ladder ladder{&second, 2, {}, {}};
                Opener opener;
                must(first.on_fault(Ladder::climb, &ladder), "on_fault");
                must(second.on_fault(Opener::open, &opener), "on_fault");
                store(first.data(), 5);
                require(ladder.faults == 1 && opener.faults == 1, "one fault each");
              }));
  }
}

sigjmp_buf g_way_out;

Verdict jump_out(void*, const Fault&) noexcept PAGETRAP_SIGNAL_SAFE { ::siglongjmp(g_way_out, 1); }

// A fault handler that is left by siglongjmp never returns to the library, which counts it as still
// running. What follows from that must be bounded: other regions, and this thread, go on.
TEST(Nested, LeavingAHandlerBySiglongjmpLeavesOtherRegionsAlone) {
  for (const BackendId id : inline_backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(
        kSucceeded, in_child([id] {
          Region left = must(
              Region::create(page_size(), options_for(id, FaultKind::write_protected)), "create");
          must(left.on_fault(jump_out, nullptr), "on_fault");
          must(left.protect(left.range(), Access::read), "protect");
          static int left_times = 0;
          while (left_times++ < 10) {
            if (::sigsetjmp(g_way_out, 1) == 0) {
              store(left.data(), 1);
              require(false, "the page is closed");
            }
          }
          Region other = must(
              Region::create(page_size(), options_for(id, FaultKind::write_protected)), "create");
          Opener opener;
          must(other.on_fault(Opener::open, &opener), "on_fault of another region");
          must(other.protect(other.range(), Access::read), "protect");
          store(other.data(), 1);
          require(opener.faults == 1, "another region");
        }));
  }
}

TEST(Nested, ARegionWhoseHandlerWasLeftBySiglongjmpCanEnd) {
  for (const BackendId id : inline_backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded,
              in_child(
                  [id] {
                    Region left = must(
                        Region::create(page_size(), options_for(id, FaultKind::write_protected)),
                        "create");
                    must(left.on_fault(jump_out, nullptr), "on_fault");
                    must(left.protect(left.range(), Access::read), "protect");
                    if (::sigsetjmp(g_way_out, 1) == 0) store(left.data(), 1);
                    left = Region();
                  },
                  5));
  }
}

}  // namespace
}  // namespace pagetrap::hazards
