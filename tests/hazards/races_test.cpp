// Races for pages, and ranges that somebody else has: hazards 1, 2, 6, 7, 14 and 20.
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <random>
#include <thread>

#include "hazards/ring.hpp"
#include "hazards/support.hpp"
#include "sys/kernel_abi.hpp"

namespace pagetrap::hazards {
namespace {

struct Filler {
  std::atomic<std::size_t> faults{0};
  std::atomic<std::size_t> filled{0};
  static Verdict fill(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
    auto& counts = *static_cast<Filler*>(self);
    counts.faults.fetch_add(1);
    const auto index =
        static_cast<std::size_t>(fault.page.base - fault.region->data()) / page_size();
    const auto done = fault.region->supply(fault.page, page_full_of(index % 250 + 1), Supply::copy);
    if (!done) return Verdict::not_mine;
    counts.filled.fetch_add(done->count());
    return Verdict::resolved;
  }
};

// Hazard 1: all threads fault on the same page at once. Each page is filled exactly once, and what
// one thread wrote after the fill is never filled over by a late loser.
TEST(Races, ManyThreadsFaultOnOnePage) {
  constexpr std::size_t kThreads = 4;
  constexpr std::size_t kPages = 1500;
  for (const BackendId id : backends_for(FaultKind::missing)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                Region region =
                    must(Region::create(kPages * page_size(), options_for(id, FaultKind::missing)),
                         "create");
                Filler filler;
                must(region.on_fault(Filler::fill, &filler), "on_fault");
                std::atomic<std::size_t> arrived{0};
                std::vector<std::thread> threads;
                for (std::size_t t = 0; t < kThreads; ++t) {
                  threads.emplace_back([&, t] {
                    for (std::size_t page = 0; page < kPages; ++page) {
                      arrived.fetch_add(1);
                      while (arrived < (page + 1) * kThreads) ::sched_yield();
                      std::byte* const base = page_at(region, page).base;
                      store(base + t, static_cast<unsigned>(t) + 200);
                      require(load(base + 100) == page % 250 + 1, "the whole page is filled");
                      require(load(base + t) == t + 200, "and not filled over");
                    }
                  });
                }
                for (std::thread& thread : threads) thread.join();
                require(filler.filled == kPages, "each page was filled exactly once");
                for (std::size_t page = 0; page < kPages; ++page)
                  for (std::size_t t = 0; t < kThreads; ++t)
                    require(load(page_at(region, page).base + t) == t + 200, "no write is lost");
              }));
  }
}

// Hazard 2: the kernel stops a bulk fill at the first page that is there.
TEST(Races, ABulkFillStepsOverPagesThatArePresent) {
  constexpr std::size_t kPages = 100;
  for (const BackendId id : backends_for(FaultKind::missing)) {
    for (const Supply how : {Supply::copy, Supply::move, Supply::zero}) {
      SCOPED_TRACE(std::string(name(id)) + " " + std::to_string(static_cast<int>(how)));
      EXPECT_EQ(kSucceeded, in_child([id, how] {
                  Region region = must(
                      Region::create(kPages * page_size(), options_for(id, FaultKind::missing)),
                      "create");
                  Filler filler;
                  must(region.on_fault(Filler::fill, &filler), "on_fault");
                  for (const std::size_t present : {0U, 1U, 17U, 50U, 51U, 99U})
                    store(page_at(region, present).base, 255);
                  std::byte* const buffer = foreign_pages(kPages, PROT_READ | PROT_WRITE);
                  std::memset(buffer, 0x44, kPages * page_size());
                  const Pages filled = must(region.supply(region.range(), buffer, how), "supply");
                  require(filled == Pages{kPages - 6}, "the rest was filled");
                  for (std::size_t page = 0; page < kPages; ++page) {
                    const unsigned first = load(page_at(region, page).base);
                    const bool kept = page == 0 || page == 1 || page == 17 || page == 50 ||
                                      page == 51 || page == 99;
                    require(first == (kept ? 255U : how == Supply::zero ? 0U : 0x44U), "contents");
                  }
                  require(filler.faults == 6, "no more faults");
                }));
    }
  }
}

// The same of publishing what was written through a view.
TEST(Races, ABulkPublishStepsOverPagesThatArePresent) {
  constexpr std::size_t kPages = 100;
  for (const BackendId id : backends_for(FaultKind::minor, Backing::memfd)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                RegionOptions options = options_for(id, FaultKind::minor);
                options.backing = Backing::memfd;
                Region region = must(Region::create(kPages * page_size(), options), "create");
                const View view = must(region.map_twice(Access::read_write), "view");
                for (std::size_t page = 0; page < kPages; ++page)
                  store(view.at(page_at(region, page).base), static_cast<unsigned>(page) + 1);
                static std::atomic<int> faults{0};
                must(region.on_fault(
                         [](void*, const Fault& fault) noexcept {
                           faults.fetch_add(1);
                           const auto done =
                               fault.region->supply(fault.page, nullptr, Supply::publish);
                           return done ? Verdict::resolved : Verdict::not_mine;
                         },
                         nullptr),
                     "on_fault");
                for (const std::size_t present : {0U, 1U, 17U, 50U, 99U})
                  store(page_at(region, present).base + 1, 255);
                require(faults == 5, "evicted at first");
                const auto publish = [&] {
                  return must(region.supply(region.range(), nullptr, Supply::publish), "publish");
                };
                require(publish() == Pages{kPages - 5}, "the rest is published");
                require(publish() == Pages{}, "and nothing is left");
                must(region.evict({page_at(region, 10).base, Pages{20}}), "evict");
                must(region.evict(page_at(region, 60)), "evict");
                require(load(page_at(region, 12).base) == 13 && faults == 6, "one by a fault");
                require(publish() == Pages{20}, "the evicted ones, less that one");
                for (std::size_t page = 0; page < kPages; ++page)
                  require(load(page_at(region, page).base) == page + 1, "contents");
                for (const std::size_t present : {0U, 1U, 17U, 50U, 99U})
                  require(load(page_at(region, present).base + 1) == 255, "no write is lost");
                require(faults == 6, "no more faults");
              }));
  }
}

// Hazard 22: a page that io_uring has pinned must stay where the kernel writes, in the buffer.
TEST(Races, APinnedBufferIsCopiedAndNotMoved) {
  if (!Ring().there()) GTEST_SKIP() << "no io_uring";
  constexpr std::size_t kPages = 8;
  for (const BackendId id : backends_for(FaultKind::missing)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(
        kSucceeded, in_child([id] {
          Region region = must(
              Region::create(kPages * page_size(), options_for(id, FaultKind::missing)), "create");
          std::byte* const buffer = foreign_pages(kPages, PROT_READ | PROT_WRITE);
          for (std::size_t page = 0; page < kPages; ++page)
            std::memcpy(buffer + page * page_size(), page_full_of(page + 1), page_size());
          Ring ring;
          const PageRange pinned{buffer + 2 * page_size(), Pages{3}};
          if (!ring.pin(pinned)) return;  // RLIMIT_MEMLOCK
          const Pages filled = must(region.supply(region.range(), buffer, Supply::move), "supply");
          require(filled == Pages{kPages}, "all of it");
          // What the kernel writes now must not reach the region.
          const int file = ::memfd_create("source", MFD_CLOEXEC);
          require(::pwrite(file, page_full_of(200), page_size(), 0) > 0, "pwrite");
          require(ring.read(IORING_OP_READ_FIXED, file, pinned.base, 64) == 64, "read");
          for (std::size_t page = 0; page < kPages; ++page)
            require(
                std::memcmp(page_at(region, page).base, page_full_of(page + 1), page_size()) == 0,
                "contents");
        }));
  }
}

// Handlers in the very thread that must read what the kernel tells of a lift, while lifts go on.
TEST(Races, HandlersAndLiftsAtOnce) {
  constexpr std::size_t kPages = 64;
  RegionOptions options = options_for(BackendId::uffd_thread, FaultKind::write_protected);
  options.liftable = true;
  options.handler_threads = 1;
  if (!Region::create(page_size(), options)) GTEST_SKIP() << "no lift here";
  EXPECT_EQ(kSucceeded, in_child([options] {
              Region region = must(Region::create(kPages * page_size(), options), "create");
              Opener opener;
              must(region.on_fault(Opener::open, &opener), "on_fault");
              std::atomic<bool> stop{false};
              std::thread writer([&] {
                std::array<unsigned char, kPages> last{};
                while (!stop) {
                  for (std::size_t page = 0; page < kPages; ++page) {
                    std::byte* const base = page_at(region, page).base;
                    require(load(base) == last[page], "what was written last");
                    store(base, ++last[page]);
                    store(base + page_size() - 1, last[page]);
                  }
                }
                for (std::size_t page = 0; page < kPages; ++page)
                  require(load(page_at(region, page).end() - 1) == last[page], "at the end");
              });
              for (unsigned round = 1; round <= 300; ++round) {
                const int before = opener.faults;
                must(region.protect(region.range(), Access::read), "protect");
                // In between the writer's faults come one after the other, on all its pages.
                while (round % 4 != 0 && opener.faults == before) ::sched_yield();
                Lift lift = must(region.lift(), "lift");
                static_cast<void>(load(lift.at(page_at(region, round % kPages).base)));
                must(lift.finish(), "finish");
              }
              stop = true;
              writer.join();
              require(opener.faults > 0, "write faults");
            }));
}

// Hazard 7: one range, one userfaultfd.
TEST(Races, ARangeThatAnotherUserfaultfdHasIsRefused) {
  const int other =
      static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
  if (other < 0) GTEST_SKIP() << "no userfaultfd here";
  uffdio_api api{UFFD_API, 0, 0};
  ASSERT_EQ(0, ::ioctl(other, UFFDIO_API, &api));
  std::byte* const memory = foreign_pages(4, PROT_READ | PROT_WRITE);
  uffdio_register theirs{};
  theirs.range = {reinterpret_cast<std::uintptr_t>(memory), 4 * page_size()};
  theirs.mode = UFFDIO_REGISTER_MODE_MISSING;
  ASSERT_EQ(0, ::ioctl(other, UFFDIO_REGISTER, &theirs));
  for (const BackendId id : {BackendId::uffd_inline, BackendId::uffd_thread}) {
    const auto refused =
        Region::adopt({memory, Pages{4}}, options_for(id, FaultKind::write_protected));
    ASSERT_FALSE(refused) << name(id);
    EXPECT_EQ(EBUSY, refused.error().number) << describe(refused.error());
    EXPECT_STRNE("", refused.error().remedy);
  }
  ::close(other);
  const auto now = Region::adopt(
      {memory, Pages{4}},
      options_for(backends_for(FaultKind::write_protected)[0], FaultKind::write_protected));
  EXPECT_TRUE(now) << "nothing of the refused ones stays behind";
  ::munmap(memory, 4 * page_size());
}

// Hazard 14: the kernel's ENOENT for a call that reaches past the registered range.
TEST(Races, CallsThatReachPastTheRegionAreRefusedBeforeTheyDoAnything) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    Region region =
        Region::create(4 * page_size(), options_for(id, FaultKind::write_protected)).value();
    Opener opener;
    ASSERT_TRUE(region.on_fault(Opener::open, &opener));
    const PageRange past{page_at(region, 2).base, Pages{4}};
    const PageRange huge{region.data(), Pages{std::size_t{1} << 52}};
    for (const PageRange range : {past, huge}) {
      const auto refused = region.protect(range, Access::read);
      ASSERT_FALSE(refused) << name(id);
      EXPECT_EQ(EINVAL, refused.error().number);
    }
    store(page_at(region, 2).base, 1);
    EXPECT_EQ(0, opener.faults) << "no prefix was protected";
  }
}

// Hazard 20: pages that were never touched have no place for a mark, and dropping a page drops its
// mark with it.
TEST(Races, PagesThatWereNeverTouchedCanBeProtected) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                Region region = must(
                    Region::create(1000 * page_size(), options_for(id, FaultKind::write_protected)),
                    "create");
                Opener opener;
                must(region.on_fault(Opener::open, &opener), "on_fault");
                must(region.protect(region.range(), Access::read), "protect");
                for (std::size_t i = 0; i < 1000; i += 100) {
                  require(load(page_at(region, i).base) == 0, "reads find zeroes");
                  store(page_at(region, i + 1).base, 1);
                }
                require(opener.faults == 10, "first writes trap");
              }));
  }
}

TEST(Races, DiscardedPagesAreTrackedOn) {
  for (const DirtyForm form : {DirtyForm::scan, DirtyForm::traps, DirtyForm::ring}) {
    SCOPED_TRACE(static_cast<int>(form));
    RegionOptions options;
    options.dirty = form;
    if (!Region::create(page_size(), options)) continue;
    EXPECT_EQ(kSucceeded, in_child([options] {
                Region region = must(Region::create(8 * page_size(), options), "create");
                for (std::size_t i = 0; i < 8; ++i) store(page_at(region, i).base, 1);
                must(region.arm_dirty(region.range()), "arm");
                must(region.discard(page_at(region, 3)), "discard");
                must(region.evict(page_at(region, 5)), "evict");
                store(page_at(region, 3).base, 1);
                store(page_at(region, 5).base, 1);
                std::vector<PageRange> found;
                must(region.dirty(region.range(), found), "dirty");
                const auto has = [&](std::size_t page) {
                  return std::any_of(found.begin(), found.end(), [&](const PageRange& range) {
                    return range.contains(page_at(region, page).base);
                  });
                };
                require(has(3) && has(5), "written after they were dropped");
                found.clear();
                store(page_at(region, 3).base, 2);
                must(region.dirty(region.range(), found), "dirty again");
                require(has(3), "and armed again");
              }));
  }
}

// Protecting right after a fault that a handler thread resolved: the thread that faulted runs on as
// soon as the page is open, maybe before the library has noted that it is.
TEST(Races, ProtectRightAfterAFaultProtects) {
  const FaultSet faults = FaultKind::missing | FaultKind::write_protected;
  for (const BackendId id : backends_for(faults)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id, faults] {
                constexpr std::size_t kPages = 2000;
                Region region =
                    must(Region::create(kPages * page_size(), options_for(id, faults)), "create");
                Opener opener;
                must(region.on_fault(Opener::open, &opener), "on_fault");
                int expected = 0;
                for (std::size_t i = 0; i < kPages; ++i) {
                  store(page_at(region, i).base, 1);
                  require(opener.faults >= ++expected, "missing");
                  must(region.protect(page_at(region, i), Access::read), "protect");
                  store(page_at(region, i).base, 2);
                  require(opener.faults >= ++expected, "write-protected at once");
                  must(region.protect(page_at(region, i), Access::read), "protect");
                  store(page_at(region, i).base, 3);
                  require(opener.faults >= ++expected, "and again");
                  must(region.discard(page_at(region, i)), "discard");
                  require(load(page_at(region, i).base) == 0, "dropped");
                  require(opener.faults >= ++expected, "missing again");
                }
              }));
  }
}

}  // namespace
}  // namespace pagetrap::hazards
