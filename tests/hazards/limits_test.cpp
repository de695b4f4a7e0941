// Running out: of mappings, address space, descriptors, threads, locked memory. A refusal is an
// Error that says what to do, the process goes on, and nothing of what failed stays behind.
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "hazards/support.hpp"
#include "sys/injection.hpp"

namespace pagetrap::hazards {
namespace {

// Protects every second page until the backend refuses. Returns how many it did.
std::size_t scatter(Region& region, std::size_t pages, Error& refusal) {
  for (std::size_t i = 0; i < pages; i += 2) {
    if (const auto done = region.protect(page_at(region, i), Access::read); !done) {
      refusal = done.error();
      return i / 2;
    }
  }
  return pages / 2;
}

constexpr std::size_t kMostMappings = 200'000;  // a machine with more has another problem

bool says_what_to_do(const Error& error) {
  return *error.operation != '\0' && *error.remedy != '\0' && !describe(error).empty();
}

TEST(Limits, MprotectOutOfMappingsIsAnErrorWithARemedy) {
  if (max_map_count() > kMostMappings) GTEST_SKIP() << "vm.max_map_count is raised here";
  EXPECT_EQ(kSucceeded, in_child([] {
              const std::size_t pages = 2 * max_map_count() + 2000;
              Region region =
                  must(Region::create(pages * page_size(),
                                      options_for(BackendId::mprotect, FaultKind::write_protected)),
                       "create");
              Opener opener;
              must(region.on_fault(Opener::open, &opener), "on_fault");
              Error refusal;
              const std::size_t done = scatter(region, pages, refusal);
              require(done < pages / 2 && refusal.number == ENOMEM, "ENOMEM");
              require(says_what_to_do(refusal), "a remedy");
              require(refusal.range.length == Pages{1}, "its range");
              // What a fault's handler can still do: open a page whose neighbours are open as well.
              store(page_at(region, 20).base, 1);
              require(opener.faults == 1, "a fault at the limit");
              // Giving some back makes room again, for us and for everybody.
              must(region.unprotect({region.data(), Pages{2000}}), "unprotect");
              void* const block = std::malloc(1_MiB);
              require(block != nullptr, "malloc");
              std::free(block);
              std::thread([] {}).join();
              must(region.protect(page_at(region, 100), Access::read), "protect again");
              region = Region();
              require(count_mappings() < 1000, "all mappings are given back");
            }));
}

TEST(Limits, UserfaultfdGoesOnWhereMprotectFails) {
  const auto able = backends_for(FaultKind::write_protected);
  for (const BackendId id : able) {
    if (!capabilities(id, Backing::anonymous).no_splits) continue;
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                const std::size_t pages = 2 * std::min(max_map_count(), kMostMappings) + 2000;
                Region region = must(Region::create(pages * page_size(),
                                                    options_for(id, FaultKind::write_protected)),
                                     "create");
                Opener opener;
                must(region.on_fault(Opener::open, &opener), "on_fault");
                Error refusal;
                require(scatter(region, pages, refusal) == pages / 2, "every second page");
                require(count_mappings() < 200, "no mappings were split");
                store(page_at(region, pages - 2).base, 1);
                store(page_at(region, pages - 1).base, 1);
                require(opener.faults == 1, "exactly the protected pages fault");
              }));
  }
}

// Takes every mapping that is left.
void take_all_mappings() {
  const std::size_t pages = 2 * max_map_count() + 2000;
  std::byte* const memory = foreign_pages(pages, PROT_NONE);
  for (std::size_t i = 0; i < pages; i += 2)
    if (::mprotect(memory + i * page_size(), page_size(), PROT_READ) != 0) return;
  require(false, "there is an end to mappings");
}

// Opens the page; if there is no mapping for that, the whole region, which needs none.
struct Widener {
  std::atomic<int> refusals{0};
  static Verdict open(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
    const auto narrow = fault.region->unprotect(fault.page);
    if (narrow) return Verdict::resolved;
    if (narrow.error().number != ENOMEM) return Verdict::not_mine;
    static_cast<Widener*>(self)->refusals.fetch_add(1);
    return fault.region->unprotect(fault.region->range()) ? Verdict::resolved : Verdict::not_mine;
  }
};

TEST(Limits, AFaultThatWouldSplitAMappingAtTheLimit) {
  if (max_map_count() > kMostMappings) GTEST_SKIP() << "vm.max_map_count is raised here";
  EXPECT_EQ(kSucceeded, in_child([] {
              constexpr std::size_t kPages = 1000;
              Region region =
                  must(Region::create(kPages * page_size(),
                                      options_for(BackendId::mprotect, FaultKind::write_protected)),
                       "create");
              Widener widener;
              must(region.on_fault(Widener::open, &widener), "on_fault");
              for (std::size_t i = 0; i < kPages; ++i) store(page_at(region, i).base, 1);
              must(region.protect(region.range(), Access::read), "one run");
              take_all_mappings();
              const auto refused = region.unprotect(page_at(region, 500));
              require(!refused && refused.error().number == ENOMEM, "ENOMEM");
              require(says_what_to_do(refused.error()), "a remedy");
              require(region.page_state(page_at(region, 500).base) == PageState::read, "as it was");
              store(page_at(region, 500).base, 2);
              require(widener.refusals == 1, "the handler is told, and opens the whole run");
              store(page_at(region, 400).base, 3);
              require(widener.refusals == 1, "which is open");
            }));
}

// A tracker cannot open the page either. It asks the region's handler, if there is one.
TEST(Limits, AWriteToATrackedPageThatWouldSplitAMappingAtTheLimit) {
  if (max_map_count() > kMostMappings) GTEST_SKIP() << "vm.max_map_count is raised here";
  for (const bool handled : {true, false}) {
    SCOPED_TRACE(handled ? "a handler" : "no handler");
    EXPECT_EQ(handled ? kSucceeded : killed_by(SIGSEGV), in_child([handled] {
                constexpr std::size_t kPages = 1000;
                RegionOptions options = options_for(BackendId::mprotect, {});
                options.dirty = DirtyForm::traps;
                Region region = must(Region::create(kPages * page_size(), options), "create");
                Widener widener;
                if (handled) must(region.on_fault(Widener::open, &widener), "on_fault");
                must(region.arm_dirty(region.range()), "arm");
                take_all_mappings();
                store(page_at(region, 500).base, 2);
                require(widener.refusals == 1, "the handler is asked");
                std::vector<PageRange> found;
                must(region.dirty(region.range(), found), "dirty");
                require(found.size() == 1 && found[0] == region.range(), "what is open is dirty");
                require(load(page_at(region, 500).base) == 2, "and written");
              }));
  }
}

// On kernels without guard markers (before 6.13) guards are PROT_NONE and cost mappings; they must
// leave half of them to the rest of the process.
TEST(Limits, GuardsWithoutMarkersStopAtHalfOfTheMappings) {
  if (max_map_count() > kMostMappings) GTEST_SKIP() << "vm.max_map_count is raised here";
  EXPECT_EQ(kSucceeded, in_child([] {
              const std::size_t pages = 2 * max_map_count();
              RegionOptions options = options_for(BackendId::mprotect, FaultKind::write_protected);
              options.backing = Backing::memfd;  // drops contents without madvise
              Region region = must(Region::create(pages * page_size(), options), "create");
              Opener opener;
              must(region.on_fault(Opener::open, &opener), "on_fault");
              sys::inject(sys::Call::madvise, EINVAL, 0, 1 << 30);
              std::size_t guards = 0;
              Error refusal;
              for (std::size_t i = 0; i < pages; i += 2) {
                if (const auto done = region.guard(page_at(region, i)); !done) {
                  refusal = done.error();
                  break;
                }
                ++guards;
              }
              require(refusal.number == ENOMEM && says_what_to_do(refusal), "ENOMEM, a remedy");
              require(guards >= max_map_count() / 4 - 1 && guards <= max_map_count() / 2, "half");
              require(region.page_state(page_at(region, 2 * guards).base) != PageState::guard,
                      "a guard that was refused is not one");
              void* const block = std::malloc(64_MiB);
              require(block != nullptr, "malloc still works");
              std::free(block);
              std::thread([] {}).join();
              must(region.unguard(page_at(region, 0)), "unguard");
              must(region.guard(page_at(region, 0)), "which makes room for one");
              sys::inject(sys::Call::none, 0);
              region = Region();
              // The count is the process's: another region may use what this one gave back.
              region = must(Region::create(4 * page_size(), options), "create");
              sys::inject(sys::Call::madvise, EINVAL, 0, 1 << 30);
              must(region.guard(page_at(region, 0)), "a new region's guard");
            }));
}

void limit(__rlimit_resource resource, rlim_t most) {
  rlimit now{};
  ::getrlimit(resource, &now);
  now.rlim_cur = most;
  require(::setrlimit(resource, &now) == 0, "setrlimit");
}

std::size_t address_space_used() {
  std::FILE* const file = std::fopen("/proc/self/statm", "re");
  unsigned long pages = 0;
  require(file != nullptr && std::fscanf(file, "%lu", &pages) == 1, "statm");
  std::fclose(file);
  return pages * page_size();
}

TEST(Limits, AddressSpace) {
  for (const BackendId id : kTrapping) {
    for (const Backing backing : {Backing::anonymous, Backing::memfd}) {
      if (!capabilities(id, backing).faults.has(FaultKind::write_protected)) continue;
      SCOPED_TRACE(name(id));
      EXPECT_EQ(kSucceeded, in_child([id, backing] {
                  RegionOptions options = options_for(id, FaultKind::write_protected);
                  options.backing = backing;
                  options.dirty = DirtyForm::traps;
                  // A first region makes what is made once. Then room for 64 MiB more, no more.
                  { const Region first = must(Region::create(page_size(), options), "first"); }
                  const std::size_t used = address_space_used();
                  limit(RLIMIT_AS, used + 64_MiB);
                  const auto refused = Region::create(1_GiB, options);
                  require(!refused && refused.error().number == ENOMEM, "ENOMEM");
                  // A region that fits, whose tables do not: at each of several sizes near the
                  // limit.
                  for (std::size_t size = 50_MiB; size < 66_MiB; size += 256_KiB) {
                    const auto tight = Region::create(size, options);
                    require(tight || tight.error().number == ENOMEM, "made or ENOMEM");
                  }
                  require(address_space_used() <= used + 2_MiB, "nothing stays behind");
                  Region small = must(Region::create(1_MiB, options), "a small one");
                  Opener opener;
                  must(small.on_fault(Opener::open, &opener), "on_fault");
                  must(small.protect(small.range(), Access::read), "protect");
                  store(small.data(), 1);
                }))
          << "backing " << static_cast<int>(backing);
    }
  }
}

// The window of a lift is as large as its region, and needs a GiB more while it is being aligned.
TEST(Limits, AddressSpaceForTheWindowOfALift) {
  for (const BackendId id : {BackendId::uffd_inline, BackendId::uffd_thread}) {
    RegionOptions options = options_for(id, FaultKind::write_protected);
    options.liftable = true;
    if (!Region::create(page_size(), options)) continue;
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([options] {
                const std::size_t size = 64_MiB;
                const std::size_t pages = size / page_size();
                Region region = must(Region::create(size, options), "create");
                Opener opener;
                must(region.on_fault(Opener::open, &opener), "on_fault");
                for (std::size_t i = 0; i < pages; i += 97) store(page_at(region, i).base, 1);
                const std::size_t used = address_space_used();
                bool refused = false;
                bool lifted = false;
                for (std::size_t more = 16_MiB; !lifted; more += 16_MiB) {
                  require(more < 4_GiB, "enough at last");
                  must(region.protect(page_at(region, 97), Access::read), "protect");
                  limit(RLIMIT_AS, used + more);
                  auto lift = region.lift();
                  lifted = static_cast<bool>(lift);
                  if (!lifted) {
                    require(lift.error().number == ENOMEM, "ENOMEM");
                    refused = true;
                    require(region.page_state(page_at(region, 97).base) == PageState::read,
                            "rights");
                    const int before = opener.faults;
                    store(page_at(region, 97).base, 1);
                    require(opener.faults == before + 1, "they are the same");
                    require(address_space_used() <= used + 1_MiB, "nothing stays behind");
                  }
                  for (std::size_t i = 0; i < pages; ++i)
                    require(load(page_at(region, i).base) == (i % 97 == 0 ? 1U : 0U), "contents");
                }
                require(refused, "not with nothing");
              }));
  }
}

TEST(Limits, Descriptors) {
  if (under_sanitizer()) GTEST_SKIP() << "it looks at memory through a pipe";
  for (const Backing backing : {Backing::anonymous, Backing::memfd}) {
    for (const BackendId id : kTrapping) {
      if (!capabilities(id, backing).faults.has(FaultKind::missing)) continue;
      SCOPED_TRACE(std::string(name(id)) + (backing == Backing::memfd ? ", memfd" : ""));
      EXPECT_EQ(kSucceeded, in_child([id, backing] {
                  RegionOptions options = options_for(id, FaultKind::missing);
                  options.backing = backing;
                  static_cast<void>(features());
                  std::size_t made_at = 0;
                  // One more descriptor allowed each time, until creation succeeds.
                  for (std::size_t allowed = 3; allowed < 40 && made_at == 0; ++allowed) {
                    limit(RLIMIT_NOFILE, allowed);
                    const auto region = Region::create(page_size(), options);
                    if (region) made_at = allowed;
                    if (!region)
                      require(region.error().number == EMFILE || region.error().number == EACCES,
                              "EMFILE");
                  }
                  require(made_at != 0, "at last");
                  limit(RLIMIT_NOFILE, 64);
                  Region region = must(Region::create(page_size(), options), "with enough of them");
                  Opener opener;
                  must(region.on_fault(Opener::open, &opener), "on_fault");
                  store(region.data(), 1);
                  require(opener.faults == 1, "works");
                }));
    }
  }
}

// Whoever meets the limit first must not be told for the rest of its life that the kernel lacks
// something, nor be given another backend without a word.
TEST(Limits, DescriptorsWhileProbing) {
  if (backends()[0].available == false) GTEST_SKIP() << "no userfaultfd here";
  // A fresh process: this one has probed already. The child re-executes this very test program.
  const End end = in_child([] {
    ::setenv("PAGETRAP_HAZARDS_PROBE", "1", 1);
    ::execl("/proc/self/exe", "hazards_limits", "--gtest_filter=Limits.Probe", nullptr);
  });
  EXPECT_EQ(kSucceeded, end);
}

TEST(Limits, Probe) {
  if (std::getenv("PAGETRAP_HAZARDS_PROBE") == nullptr)
    GTEST_SKIP() << "run by DescriptorsWhileProbing";
  rlimit before{};
  ASSERT_EQ(0, ::getrlimit(RLIMIT_NOFILE, &before));
  rlimit tight = before;
  tight.rlim_cur = 3;
  ASSERT_EQ(0, ::setrlimit(RLIMIT_NOFILE, &tight));
  RegionOptions options;
  options.faults = FaultKind::write_protected;
  const auto while_tight = Region::create(page_size(), options);
  ASSERT_EQ(0, ::setrlimit(RLIMIT_NOFILE, &before));
  const auto after = Region::create(page_size(), options);
  ASSERT_TRUE(after);
  EXPECT_NE(BackendId::mprotect, after->backend()) << "there are descriptors enough now";
}

void become_nobody() {
  constexpr uid_t kNobody = 65534;
  if (::getuid() != 0) return;
  require(::setresgid(kNobody, kNobody, kNobody) == 0, "setresgid");
  require(::setresuid(kNobody, kNobody, kNobody) == 0, "setresuid");
  ::prctl(PR_SET_DUMPABLE, 1);  // as after an exec: /proc/self is the user's own
}

TEST(Limits, Threads) {
  if (!capabilities(BackendId::uffd_thread, Backing::anonymous).handler_thread)
    GTEST_SKIP() << "no userfaultfd here";
  EXPECT_EQ(kSucceeded, in_child([] {
              become_nobody();
              limit(RLIMIT_NPROC, 0);
              RegionOptions options = options_for(BackendId::uffd_thread, FaultKind::missing);
              options.handler_threads = 4;
              const auto refused = Region::create(page_size(), options);
              require(!refused && refused.error().number == EAGAIN, "EAGAIN");
              require(says_what_to_do(refused.error()), "a remedy");
              // Other backends need none.
              Region region = must(Region::create(page_size(), options_for(BackendId::uffd_inline,
                                                                           FaultKind::missing)),
                                   "in the faulting thread");
              Opener opener;
              must(region.on_fault(Opener::open, &opener), "on_fault");
              store(region.data(), 1);
            }));
}

TEST(Limits, LockedMemory) {
  if (under_sanitizer()) GTEST_SKIP() << "it makes mlockall() do nothing";
  EXPECT_EQ(kSucceeded, in_child([] {
              become_nobody();
              limit(RLIMIT_MEMLOCK, 1_MiB);
              if (::mlockall(MCL_FUTURE | MCL_ONFAULT) != 0) return;
              for (const BackendId id : backends_for(FaultKind::write_protected)) {
                const auto options = options_for(id, FaultKind::write_protected);
                const auto refused = Region::create(1_GiB, options);
                require(!refused &&
                            (refused.error().number == EAGAIN || refused.error().number == ENOMEM),
                        "EAGAIN or ENOMEM");
                auto made = Region::create(64_KiB, options);
                // A handler thread's stack is locked as well, and too large.
                if (!made && id == BackendId::uffd_thread) {
                  require(made.error().number == EAGAIN, "EAGAIN");
                  continue;
                }
                Region region = must(std::move(made), "a small one");
                Opener opener;
                must(region.on_fault(Opener::open, &opener), "on_fault");
                must(region.protect(region.range(), Access::read), "protect");
                store(region.data(), 1);
                require(opener.faults == 1, "locked memory can be protected");
              }
            }));
}

// The ring needs locked memory for its buffers. Where it is refused, `best` must not fail.
TEST(Limits, LockedMemoryForTheDirtyRing) {
  EXPECT_EQ(kSucceeded, in_child([] {
              become_nobody();
              limit(RLIMIT_MEMLOCK, 0);
              RegionOptions options;
              options.dirty = DirtyForm::ring;
              const auto ring = Region::create(64_KiB, options);
              if (!ring)
                require(ring.error().number != 0 && !describe(ring.error()).empty(), "says why");
              options.dirty = DirtyForm::best;
              Region region = must(Region::create(64_KiB, options), "best");
              must(region.arm_dirty(region.range()), "arm");
              store(region.data(), 1);
              std::vector<PageRange> found;
              require(must(region.dirty(region.range(), found), "dirty") == Pages{1}, "one page");
            }));
}

// A process that may not open its own /proc/self/mem and pagemap (it changed its user, and is not
// dumpable): what needs them is refused at creation, or done without.
TEST(Limits, ProcFilesThatMayNotBeOpened) {
  if (::getuid() != 0) GTEST_SKIP() << "needs root, to change the user";
  EXPECT_EQ(kSucceeded, in_child([] {
              static_cast<void>(features());
              become_nobody();
              ::prctl(PR_SET_DUMPABLE, 0);
              for (const DirtyForm form : {DirtyForm::best, DirtyForm::scan, DirtyForm::traps}) {
                RegionOptions options;
                options.dirty = form;
                auto region = Region::create(64_KiB, options);
                if (!region) {
                  require(form == DirtyForm::scan && says_what_to_do(region.error()), "refused");
                  continue;
                }
                must(region->arm_dirty(region->range()), "arm");
                store(region->data(), 1);
                std::vector<PageRange> found;
                must(region->dirty(region->range(), found), "dirty");
                require(found.size() == 1, "the page written");
              }
              auto filled =
                  Region::create(64_KiB, options_for(BackendId::mprotect, FaultKind::missing));
              if (!filled) require(says_what_to_do(filled.error()), "a remedy");
            }));
}

// The kernel may ask for another try while an event is unread (hazard 3).
TEST(Limits, AgainIsTriedAgain) {
  for (const BackendId id : {BackendId::uffd_inline, BackendId::uffd_thread}) {
    if (!capabilities(id, Backing::anonymous).faults.has(FaultKind::missing)) continue;
    EXPECT_EQ(
        kSucceeded, in_child([id] {
          const FaultSet faults = FaultKind::missing | FaultKind::write_protected;
          Region region = must(Region::create(4 * page_size(), options_for(id, faults)), "create");
          std::byte* const buffer = foreign_pages(1, PROT_READ | PROT_WRITE);
          sys::inject(sys::Call::uffd_copy, EAGAIN, 0, 5);
          require(must(region.supply(page_at(region, 0), buffer, Supply::copy), "copy") == Pages{1},
                  "a page");
          sys::inject(sys::Call::uffd_zero, EAGAIN, 0, 5);
          must(region.supply(page_at(region, 1), nullptr, Supply::zero), "zero");
          sys::inject(sys::Call::uffd_write_protect, EAGAIN, 0, 5);
          must(region.protect(page_at(region, 0), Access::read), "protect");
          sys::inject(sys::Call::uffd_write_protect, EAGAIN, 0, 5);
          must(region.unprotect(page_at(region, 0)), "unprotect");
          // For ever is an error, not a hang.
          sys::inject(sys::Call::uffd_copy, EAGAIN, 0, 1 << 30);
          const auto refused = region.supply(page_at(region, 2), buffer, Supply::copy);
          require(!refused && refused.error().number == EAGAIN, "EAGAIN");
        }));
  }
}

}  // namespace
}  // namespace pagetrap::hazards
