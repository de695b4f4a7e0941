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

// Adopted memory stays when its region ends: the sleeper is woken, and goes on in plain memory.
TEST(Unmapping, AThreadThatSleepsOnAPageOfAdoptedMemoryGoesOnInPlainMemory) {
  for (const FaultKind kind : {FaultKind::missing, FaultKind::write_protected}) {
    if (!capabilities(BackendId::uffd_thread, Backing::anonymous).faults.has(kind)) continue;
    SCOPED_TRACE(kind == FaultKind::missing ? "missing" : "write_protected");
    EXPECT_EQ(kSucceeded, in_child(
                              [kind] {
                                const auto options = options_for(BackendId::uffd_thread, kind);
                                Region busy = must(Region::create(page_size(), options), "create");
                                std::byte* const page = foreign_pages(1, PROT_READ | PROT_WRITE);
                                if (kind == FaultKind::write_protected) store(page + 1, 0x77);
                                auto ending = std::make_unique<Region>(
                                    must(Region::adopt({page, Pages{1}}, options), "adopt"));
                                Gate gate;
                                Opener opener;
                                must(busy.on_fault(Gate::hold, &gate), "on_fault");
                                must(ending->on_fault(Opener::open, &opener), "on_fault");
                                for (Region* region : {&busy, ending.get()})
                                  if (kind == FaultKind::write_protected)
                                    must(region->protect(region->range(), Access::read), "protect");
                                std::thread first([&busy] { store(busy.data(), 1); });
                                while (!gate.entered) ::usleep(500);
                                std::atomic<pid_t> sleeping{0};
                                std::thread sleeper([page, &sleeping] {
                                  sleeping = thread_id();
                                  store(page, 5);
                                });
                                while (sleeping == 0) ::usleep(500);
                                wait_until_asleep(sleeping);
                                ending.reset();
                                sleeper.join();
                                require(load(page) == 5, "its store");
                                require(load(page + 1) == (kind == FaultKind::missing ? 0U : 0x77U),
                                        "the rest");
                                require(opener.faults == 0, "no handler was free");
                                gate.open = true;
                                first.join();
                              },
                              8));
  }
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

// What a call for a page answers after the program has put something else in its place.
int error_of(const Result<Done>& result) { return result ? 0 : result.error().number; }

struct Shaken {
  Region region;
  Opener opener;
  explicit Shaken(BackendId id) {
    region = must(Region::create(8 * page_size(), options_for(id, FaultKind::write_protected)),
                  "create");
    must(region.on_fault(Opener::open, &opener), "on_fault");
    for (std::size_t i = 0; i < 8; ++i)
      store(page_at(region, i).base, static_cast<unsigned>(i) + 1);
  }
  // All is as before around page 4, and when the region ends.
  void check_neighbours_and_end() {
    const int before = opener.faults;
    must(region.protect({region.data(), Pages{4}}, Access::read), "those before");
    must(region.protect({page_at(region, 5).base, Pages{3}}, Access::read), "those behind");
    for (const std::size_t page : {3U, 5U}) {
      require(load(page_at(region, page).base) == page + 1, "contents");
      store(page_at(region, page).base, 9);
    }
    require(opener.faults == before + 2, "they trap as before");
    RegionOptions again = options_for(region.backend(), FaultKind::write_protected);
    again.address = region.data();
    region = Region();
    region = must(Region::create(8 * page_size(), again), "nothing is left at its addresses");
    require(load(page_at(region, 4).base) == 0, "fresh memory");
  }
};

TEST(Unmapping, AMappingInPlaceOfAPage) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                Shaken shaken(id);
                const PageRange page = page_at(shaken.region, 4);
                require(::mmap(page.base, page_size(), PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page.base,
                        "mmap");
                const bool by_address = id == BackendId::mprotect;  // whatever is there
                const int refusal = by_address ? 0 : ENOENT;
                require(error_of(shaken.region.protect(page, Access::read)) == refusal, "protect");
                store(page.base, 1);
                require(shaken.opener.faults == (by_address ? 1 : 0), "trapped, or not ours");
                require(error_of(shaken.region.unprotect(page)) == refusal, "unprotect");
                require(
                    error_of(shaken.region.protect(shaken.region.range(), Access::read)) == refusal,
                    "protect of all");
                must(shaken.region.unprotect({shaken.region.data(), Pages{4}}), "open again");
                shaken.check_neighbours_and_end();
              }));
  }
}

// A fault there is still taken for the region's, and its handler asked.
TEST(Unmapping, AFaultInAMappingInPlaceOfAPage) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(id == BackendId::mprotect ? kSucceeded : killed_by(SIGSEGV), in_child([id] {
                Shaken shaken(id);
                const PageRange page = page_at(shaken.region, 4);
                require(::mmap(page.base, page_size(), PROT_READ,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page.base,
                        "mmap");
                store(page.base, 1);
                require(shaken.opener.faults == 1, "the handler opened it");
              }));
  }
}

// mprotect(2) and madvise(2) say so in the first way, userfaultfd in the second.
bool is_hole(int error) { return error == ENOMEM || error == ENOENT; }

bool can_be_written(std::byte* page) {
  int ends[2];
  require(::pipe2(ends, O_CLOEXEC) == 0 && ::write(ends[1], "k", 1) == 1, "pipe");
  const bool written = ::read(ends[0], page + 1, 1) == 1;  // else EFAULT
  ::close(ends[0]);
  ::close(ends[1]);
  return written;
}

TEST(Unmapping, APageMovedAway) {
  for (const BackendId id : backends_for(FaultKind::write_protected)) {
    for (const bool closed : {false, true}) {
      SCOPED_TRACE(std::string(name(id)) + (closed ? ", closed" : ", open"));
      EXPECT_EQ(kSucceeded, in_child([id, closed] {
                  Shaken shaken(id);
                  const PageRange page = page_at(shaken.region, 4);
                  if (closed) must(shaken.region.protect(page, Access::read), "protect");
                  std::byte* const target = foreign_pages(1, PROT_NONE);
                  require(::mremap(page.base, page_size(), page_size(),
                                   MREMAP_MAYMOVE | MREMAP_FIXED, target) == target,
                          "mremap");
                  require(is_hole(error_of(shaken.region.protect(page, Access::read))), "protect");
                  require(is_hole(error_of(shaken.region.unprotect(page))), "unprotect");
                  require(load(target) == 5, "the contents went along");
                  // So do mprotect's rights, and no marks of userfaultfd.
                  const bool still_closed = closed && id == BackendId::mprotect;
                  require(can_be_written(target) != still_closed, "its rights");
                  require(shaken.opener.faults == 0, "not ours any more");
                  shaken.check_neighbours_and_end();
                  require(load(target + 1) == (still_closed ? 0U : 'k'),
                          "it has outlived the region");
                }));
    }
  }
}

// There is no page to close in a fork()ed child, which takes that for pages it cannot close. (With
// handler threads the child's own memory may come to lie in the hole.)
TEST(Unmapping, AHoleAmongProtectedPagesEndsAForkedChild) {
  for (const BackendId id : inline_backends_for(FaultKind::write_protected)) {
    for (const bool closed : {false, true}) {
      SCOPED_TRACE(std::string(name(id)) + (closed ? ", closed" : ", open"));
      EXPECT_EQ(kSucceeded, in_child([id, closed] {
                  Shaken shaken(id);
                  const PageRange page = page_at(shaken.region, 4);
                  if (closed) must(shaken.region.protect(page, Access::read), "protect");
                  require(::munmap(page.base, page_size()) == 0, "munmap");
                  const End child = in_forked_copy([&] { shaken.check_neighbours_and_end(); });
                  const bool ends = closed && id != BackendId::mprotect;
                  require(child == (ends ? killed_by(SIGABRT) : kSucceeded), "the child");
                }));
    }
  }
}

// The program drops a page itself, where discard() is meant for that.
TEST(Unmapping, TheProgramsOwnMadviseOfAFilledPage) {
  for (const BackendId id : backends_for(FaultKind::missing)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                Region region = must(
                    Region::create(2 * page_size(), options_for(id, FaultKind::missing)), "create");
                static std::atomic<int> faults{0};
                must(region.on_fault(
                         [](void*, const Fault& fault) noexcept {
                           if (fault.kind != FaultKind::missing) return Verdict::not_mine;
                           faults.fetch_add(1);
                           const auto done =
                               fault.region->supply(fault.page, page_full_of(7), Supply::copy);
                           return done ? Verdict::resolved : Verdict::not_mine;
                         },
                         nullptr),
                     "on_fault");
                require(load(region.data()) == 7 && faults == 1, "filled");
                require(::madvise(region.data(), page_size(), MADV_DONTNEED) == 0, "madvise");
                // mprotect(2) left the page open, and the kernel fills it with zeroes.
                const bool noticed = id != BackendId::mprotect;
                require(load(region.data()) == (noticed ? 7U : 0U), "the next access");
                require(faults == (noticed ? 2 : 1), "is missing on userfaultfd alone");
                must(region.discard(page_at(region, 0)), "discard");
                require(load(region.data()) == 7 && load(page_at(region, 1).base) == 7, "as ever");
              }));
  }
}

TEST(Unmapping, TheProgramsOwnMadviseOfAProtectedPage) {
  for (const Backing backing : {Backing::anonymous, Backing::memfd}) {
    for (const BackendId id : backends_for(FaultKind::write_protected, backing)) {
      SCOPED_TRACE(std::string(name(id)) + (backing == Backing::memfd ? ", memfd" : ""));
      EXPECT_EQ(kSucceeded, in_child([id, backing] {
                  RegionOptions options = options_for(id, FaultKind::write_protected);
                  options.backing = backing;
                  Region region = must(Region::create(2 * page_size(), options), "create");
                  Opener opener;
                  must(region.on_fault(Opener::open, &opener), "on_fault");
                  store(region.data(), 7);
                  must(region.protect(region.range(), Access::read), "protect");
                  require(::madvise(region.data(), page_size(), MADV_DONTNEED) == 0, "madvise");
                  // userfaultfd's mark goes with a private page; that of a memory object stays.
                  const bool lost = id != BackendId::mprotect && backing == Backing::anonymous;
                  store(region.data() + 1, 8);
                  require(opener.faults == (lost ? 0 : 1), "the next write");
                  require(load(region.data()) == (backing == Backing::memfd ? 7U : 0U), "the rest");
                  must(region.protect(region.range(), Access::read), "protect again");
                  const int before = opener.faults;
                  store(region.data(), 9);
                  store(page_at(region, 1).base, 9);
                  require(opener.faults == before + 2, "closes it again");
                }));
    }
  }
}

TEST(Unmapping, TheProgramsOwnMadviseOfATrackedPage) {
  for (const RegionOptions& options : tracking_options()) {
    SCOPED_TRACE(tracked_by(options));
    EXPECT_EQ(kSucceeded, in_child([options] {
                Region region = must(Region::create(8 * page_size(), options), "create");
                for (std::size_t i = 0; i < 8; ++i) store(page_at(region, i).base, 1);
                must(region.arm_dirty(region.range()), "arm");
                require(::madvise(page_at(region, 3).base, page_size(), MADV_DONTNEED) == 0,
                        "madvise");
                store(page_at(region, 3).base, 2);
                std::vector<PageRange> found;
                must(region.dirty(region.range(), found), "dirty");
                const bool lost =
                    options.dirty == DirtyForm::traps && options.backend != BackendId::mprotect;
                require(found.size() == (lost ? 0 : 1), "traps need the mark that went");
                if (!lost) require(found[0] == page_at(region, 3), "exactly that page");
              }));
  }
}

TEST(Unmapping, ArmDirtyArmsAPageThatTheProgramDropped) {
  for (const RegionOptions& options : tracking_options()) {
    SCOPED_TRACE(tracked_by(options));
    EXPECT_EQ(kSucceeded, in_child([options] {
                Region region = must(Region::create(8 * page_size(), options), "create");
                for (std::size_t i = 0; i < 8; ++i) store(page_at(region, i).base, 1);
                must(region.arm_dirty(region.range()), "arm");
                require(::madvise(page_at(region, 3).base, page_size(), MADV_DONTNEED) == 0,
                        "madvise");
                store(page_at(region, 3).base, 2);
                must(region.arm_dirty(region.range()), "arm again");
                store(page_at(region, 3).base, 3);
                std::vector<PageRange> found;
                must(region.dirty(region.range(), found), "dirty");
                require(found.size() == 1 && found[0] == page_at(region, 3), "exactly that page");
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
