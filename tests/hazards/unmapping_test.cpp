// Regions that end, and memory that goes away, while faults are in flight.
#include <sys/mman.h>

#include <memory>
#include <thread>

#include "hazards/support.hpp"

namespace pagetrap::hazards {
namespace {

// Faults on `region` until told to stop: protect one page, write it.
void keep_faulting(Region& region, const std::atomic<bool>& stop, std::size_t page) {
  unsigned value = 0;
  while (!stop) {
    must(region.protect(page_at(region, page), Access::read), "protect");
    store(page_at(region, page).base, ++value);
    require(load(page_at(region, page).base) == (value & 0xff), "the value written");
  }
}

void create_and_end(BackendId id, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    Opener opener;
    Region region = must(
        Region::create(8 * page_size(), options_for(id, FaultKind::write_protected)), "create");
    must(region.on_fault(Opener::open, &opener), "on_fault");
    must(region.protect(region.range(), Access::read), "protect");
    for (std::size_t page = 0; page < 8; ++page) store(page_at(region, page).base, 1);
    require(opener.faults == 8, "a new region's faults");
  }
}

TEST(Unmapping, RegionsComeAndGoWhileOthersFault) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                Opener opener;
                Region region = must(
                    Region::create(8 * page_size(), options_for(id, FaultKind::write_protected)),
                    "create");
                must(region.on_fault(Opener::open, &opener), "on_fault");
                std::atomic<bool> stop{false};
                std::vector<std::thread> faulting;
                for (std::size_t i = 0; i < 3; ++i)
                  faulting.emplace_back([&, i] { keep_faulting(region, stop, i); });
                std::thread other([id] { create_and_end(id, 150); });
                create_and_end(id, 150);
                other.join();
                stop = true;
                for (std::thread& thread : faulting) thread.join();
                require(opener.faults > 0, "faults");
              }));
  }
}

// Holds the fault until it is let go.
struct Gate {
  std::atomic<bool> entered{false};
  std::atomic<bool> open{false};
  std::atomic<bool> left{false};
  static Verdict hold(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
    auto& gate = *static_cast<Gate*>(self);
    gate.entered = true;
    while (!gate.open) ::usleep(500);
    const bool opened = static_cast<bool>(fault.region->unprotect(fault.page));
    gate.left = true;
    return opened ? Verdict::resolved : Verdict::not_mine;
  }
};

// The access itself comes after the handler and finds the memory gone: the program's mistake, which
// must be a SIGSEGV and nothing worse. So the access is the last thing the child does.
TEST(Unmapping, EndingARegionWaitsForItsHandlers) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    const End end = in_child([&] {
      Gate gate;
      auto region = std::make_unique<Region>(
          must(Region::create(page_size(), options_for(id, FaultKind::write_protected)), "create"));
      must(region->on_fault(Gate::hold, &gate), "on_fault");
      must(region->protect(region->range(), Access::read), "protect");
      std::byte* const page = region->data();
      std::thread faulting([page] { store(page, 1); });
      while (!gate.entered) ::usleep(500);
      std::atomic<bool> ended{false};
      std::thread ending([&] {
        region.reset();
        require(gate.left, "the handler had left when the region ended");
        ended = true;
      });
      ::usleep(50'000);
      require(!ended, "the region has not ended while the handler runs");
      gate.open = true;
      ending.join();
      faulting.join();
    });
    EXPECT_TRUE(end == kSucceeded || end == killed_by(SIGSEGV)) << end;
  }
}

// The only handler thread is busy, a second thread sleeps in the kernel on a page of another
// region, and that region ends. The sleeper must be woken: onto SIGSEGV, since its memory is gone,
// and not onto a page of zeroes.
TEST(Unmapping, AThreadThatSleepsOnAPageIsWokenWhenItsRegionEnds) {
  if (!capabilities(BackendId::uffd_thread, Backing::anonymous).handler_thread)
    GTEST_SKIP() << "no userfaultfd here";
  EXPECT_EQ(killed_by(SIGSEGV),
            in_child(
                [] {
                  const auto options = options_for(BackendId::uffd_thread, FaultKind::missing);
                  Region busy = must(Region::create(page_size(), options), "create");
                  auto ending = std::make_unique<Region>(
                      must(Region::create(page_size(), options), "create"));
                  static Gate gate;
                  static Opener opener;
                  must(busy.on_fault(Gate::hold, &gate), "on_fault");
                  must(ending->on_fault(Opener::open, &opener), "on_fault");
                  std::thread first([&busy] { store(busy.data(), 1); });
                  while (!gate.entered) ::usleep(500);
                  std::byte* const page = ending->data();
                  std::thread sleeper([page] {
                    store(page, 1);
                    require(false, "the page is gone");
                  });
                  ::usleep(100'000);
                  ending.reset();
                  gate.open = true;
                  first.join();
                  sleeper.join();
                },
                5));
}

// The same addresses, another region: its faults are its own.
TEST(Unmapping, ARegionAtTheAddressOfAnEndedOneGetsItsOwnFaults) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                RegionOptions options = options_for(id, FaultKind::write_protected);
                Region region = must(Region::create(4 * page_size(), options), "create");
                options.address = region.data();
                Opener openers[200];
                for (Opener& opener : openers) {
                  region = Region();
                  region = must(Region::create(4 * page_size(), options), "create again");
                  must(region.on_fault(Opener::open, &opener), "on_fault");
                  must(region.protect(region.range(), Access::read), "protect");
                  store(page_at(region, 3).base, 1);
                  require(opener.faults == 1, "the new region's handler");
                }
                for (Opener& opener : openers) require(opener.faults == 1, "and nobody else's");
              }));
  }
}

// The program unmaps pages of a region behind our back. That is its mistake; it gets an error.
TEST(Unmapping, PagesUnmappedBehindOurBackAreAnError) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                Region region = must(
                    Region::create(8 * page_size(), options_for(id, FaultKind::write_protected)),
                    "create");
                Opener opener;
                must(region.on_fault(Opener::open, &opener), "on_fault");
                require(::munmap(page_at(region, 4).base, page_size()) == 0, "munmap");
                const auto protect = region.protect(page_at(region, 4), Access::read);
                require(!protect, "protect of a hole is refused");
                require(protect.error().number == ENOMEM || protect.error().number == ENOENT ||
                            protect.error().number == EINVAL,
                        "ENOENT or ENOMEM");
                must(region.protect(page_at(region, 3), Access::read), "its neighbour");
                store(page_at(region, 3).base, 1);
                require(opener.faults == 1, "is as before");
              }));
  }
}

// A thread faults on a page that another one closes, opens, discards and supplies all the time.
TEST(Unmapping, ContentsComeAndGoWhileThreadsFault) {
  const FaultSet faults = FaultKind::missing | FaultKind::write_protected;
  for (const BackendId id : backends_for(faults)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id, faults] {
                constexpr std::size_t kPages = 4;
                Region region =
                    must(Region::create(kPages * page_size(), options_for(id, faults)), "create");
                // Missing pages are filled with ones, so that a zero is a page nobody supplied.
                static std::array<std::byte, 65536> ones;
                ones.fill(std::byte{1});
                must(region.on_fault(
                         [](void*, const Fault& fault) noexcept {
                           const bool done =
                               fault.kind == FaultKind::missing
                                   ? static_cast<bool>(fault.region->supply(fault.page, ones.data(),
                                                                            Supply::copy))
                                   : static_cast<bool>(fault.region->unprotect(fault.page));
                           return done ? Verdict::resolved : Verdict::not_mine;
                         },
                         nullptr),
                     "on_fault");
                std::atomic<bool> stop{false};
                std::vector<std::thread> readers;
                for (int i = 0; i < 3; ++i) {
                  readers.emplace_back([&] {
                    for (std::size_t n = 0; !stop; ++n)
                      require(load(page_at(region, n % kPages).base + n % page_size()) == 1,
                              "no reader sees a page that nobody supplied");
                  });
                }
                for (std::size_t n = 0; n < 3000; ++n) {
                  const PageRange page = page_at(region, n % kPages);
                  // Only this thread empties pages, so one that is open stays so until it is
                  // discarded.
                  if (n % 3 == 0 && region.page_state(page.base) == PageState::read_write)
                    must(region.protect(page, Access::read), "protect");
                  must(region.discard(page), "discard");
                }
                stop = true;
                for (std::thread& thread : readers) thread.join();
              }));
  }
}

}  // namespace
}  // namespace pagetrap::hazards
