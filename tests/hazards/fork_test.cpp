// fork(), vfork(), posix_spawn() and exec with regions: what a child finds, and what it cannot
// harm.
#include <dirent.h>
#include <spawn.h>

#include <algorithm>
#include <memory>
#include <random>
#include <set>
#include <thread>

#include "hazards/support.hpp"

extern char** environ;

namespace pagetrap::hazards {
namespace {

// Fills missing pages with their own index, opens the others; counts by process.
struct Filler {
  std::atomic<int> faults{0};
  static Verdict fill(void* self, const Fault& fault) noexcept PAGETRAP_SIGNAL_SAFE {
    static_cast<Filler*>(self)->faults.fetch_add(1);
    if (fault.kind != FaultKind::missing)
      return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
    const auto index =
        static_cast<std::size_t>(fault.page.base - fault.region->data()) / page_size();
    return fault.region->supply(fault.page, page_full_of(index + 1), Supply::copy)
               ? Verdict::resolved
               : Verdict::not_mine;
  }
};

constexpr std::size_t kPages = 64;

bool is_whole(const Region& region, std::size_t page, std::size_t value) {
  for (std::size_t at = 0; at < page_size(); at += 61)
    if (load(page_at(region, page).base + at) != value) return false;
  return true;
}

class Fork : public ::testing::TestWithParam<BackendId> {
 protected:
  static FaultSet faults() { return FaultKind::missing | FaultKind::write_protected; }
  void SetUp() override {
    if (!capabilities(GetParam(), Backing::anonymous).faults.covers(faults()))
      GTEST_SKIP() << "not on this machine";
  }
  // In a process of its own: regions, and threads that fork.
  static Region make(Filler& filler, ForkPolicy policy = ForkPolicy::rearm) {
    RegionOptions options = options_for(GetParam(), faults());
    options.on_fork = policy;
    Region region = must(Region::create(kPages * page_size(), options), "create");
    must(region.on_fault(Filler::fill, &filler), "on_fault");
    return region;
  }
};

INSTANTIATE_TEST_SUITE_P(Backends, Fork, ::testing::ValuesIn(kTrapping), [](const auto& backend) {
  std::string words = name(backend.param);
  std::replace(words.begin(), words.end(), '-', '_');
  return words;
});

// Hazards 4 and 5: registrations are gone in a child, and its inherited descriptor acts on the
// parent.
TEST_P(Fork, ChildHasTheSameRegionAndCannotHarmTheParents) {
  EXPECT_EQ(kSucceeded, in_child([] {
              Filler filler;
              Region region = make(filler);
              for (std::size_t i = 0; i < kPages / 2; ++i)
                require(is_whole(region, i, i + 1), "filled");
              must(region.protect({region.data(), Pages{kPages / 4}}, Access::read), "protect");
              const int before = filler.faults;
              const End child = in_forked_copy([&] {
                require(filler.faults == before, "the child starts where the parent was");
                store(page_at(region, 3).base, 200);
                require(filler.faults == before + 1, "protected pages are protected in the child");
                store(page_at(region, kPages / 4 + 1).base, 201);
                require(filler.faults == before + 1, "open pages are open");
                require(is_whole(region, kPages - 1, kPages),
                        "missing pages are missing in the child");
                require(filler.faults == before + 2, "and are supplied there");
                must(region.unprotect(region.range()), "unprotect everything");
                must(region.protect(page_at(region, 5), Access::read), "protect in the child");
                store(page_at(region, 5).base, 202);
                require(filler.faults == before + 3, "protect works in the child");
                must(region.discard(page_at(region, 6)), "discard in the child");
                require(is_whole(region, 6, 7), "and is supplied again");
              });
              require(child == kSucceeded, "the child");
              require(filler.faults == before, "the parent saw none of it");
              require(is_whole(region, 3, 4), "the parent's contents");
              store(page_at(region, 3).base, 100);
              require(filler.faults == before + 1, "the parent's pages are still protected");
              require(is_whole(region, kPages - 1, kPages), "the parent's missing pages");
              require(filler.faults == before + 2, "are still missing");
            }));
}

TEST_P(Fork, ChildMayEndItsRegionAndTheParentGoesOn) {
  EXPECT_EQ(kSucceeded, in_child(
                            [] {
                              Filler filler;
                              Region region = make(filler);
                              require(is_whole(region, 0, 1), "before");
                              const End child = in_forked_copy([&] { region = Region(); });
                              require(child == kSucceeded, "the child");
                              for (std::size_t i = 0; i < kPages; ++i)
                                require(is_whole(region, i, i + 1), "the parent's faults");
                            },
                            8));
}

TEST_P(Fork, ParentMayEndItsRegionAndTheChildGoesOn) {
  EXPECT_EQ(kSucceeded, in_child(
                            [] {
                              Filler filler;
                              Region region = make(filler);
                              require(is_whole(region, 0, 1), "before");
                              int ends[2];
                              require(::pipe2(ends, O_CLOEXEC) == 0, "pipe");
                              const pid_t child = start_child([&] {
                                char byte = 0;
                                require(::read(ends[0], &byte, 1) == 1, "read");
                                for (std::size_t i = 0; i < kPages; ++i)
                                  require(is_whole(region, i, i + 1), "the child's faults");
                              });
                              region = Region();
                              require(::write(ends[1], "x", 1) == 1, "write");
                              require(wait_for(child) == kSucceeded, "the child");
                            },
                            8));
}

TEST_P(Fork, GrandchildrenHaveItToo) {
  EXPECT_EQ(kSucceeded, in_child([] {
              Filler filler;
              Region region = make(filler);
              const End child = in_forked_copy([&] {
                require(is_whole(region, 1, 2), "child");
                const End grandchild = in_forked_copy([&] {
                  require(is_whole(region, 1, 2) && is_whole(region, 2, 3), "grandchild");
                  must(region.protect(region.range(), Access::read), "protect");
                  store(region.data(), 1);
                });
                require(grandchild == kSucceeded, "the grandchild");
                require(is_whole(region, 3, 4), "the child after it");
              });
              require(child == kSucceeded, "the child");
              require(is_whole(region, 4, 5), "the parent after it");
            }));
}

TEST_P(Fork, AbsentRegionsAreNotThere) {
  EXPECT_EQ(kSucceeded, in_child([] {
              Filler filler;
              Region region = make(filler, ForkPolicy::absent);
              require(is_whole(region, 0, 1), "before");
              std::byte* const page = region.data();
              require(in_child([page] { store(page, 1); }) == killed_by(SIGSEGV),
                      "nothing is mapped there");
              const End child = in_forked_copy([&] {
                require(region.range().empty(), "the child's Region is empty");
                const auto refused = region.protect({page, Pages{1}}, Access::read);
                require(!refused && refused.error().number == EBADF, "its operations say so");
                region = Region();
                Filler own;
                Region another = make(own);
                require(is_whole(another, 1, 2), "the child can have regions of its own");
              });
              require(child == kSucceeded, "the child");
              require(is_whole(region, 1, 2), "the parent goes on");
            }));
}

// Threads that fault, protect, discard and supply without a pause, in pages of their own.
void disturb(Region& region, std::size_t thread, const std::atomic<bool>& stop) {
  std::mt19937 random(static_cast<unsigned>(thread) + 1);
  while (!stop) {
    const std::size_t page = thread * 8 + random() % 8;
    switch (random() % 4) {
      case 0:
        // A missing page would become zeroes.
        if (region.page_state(page_at(region, page).base) == PageState::read_write)
          must(region.protect(page_at(region, page), Access::read), "protect");
        break;
      case 1:
        must(region.discard(page_at(region, page)), "discard");
        break;
      default:
        require(is_whole(region, page, page + 1), "contents");
        store(page_at(region, page).base, static_cast<unsigned>(page) + 1);
    }
  }
}

TEST_P(Fork, StormOfForksWhileFourThreadsFault) {
  if (under_sanitizer() && GetParam() == BackendId::uffd_thread)
    GTEST_SKIP() << "its allocator may stay locked in a fork()ed child, which has a thread of ours";
  EXPECT_EQ(kSucceeded, in_child(
                            [] {
                              Filler filler;
                              Region region = make(filler);
                              std::atomic<bool> stop{false};
                              std::vector<std::thread> threads;
                              for (std::size_t i = 0; i < 4; ++i)
                                threads.emplace_back([&, i] { disturb(region, i, stop); });
                              for (int i = 0; i < 60; ++i) {
                                const End child = in_forked_copy(
                                    [&] {
                                      for (std::size_t page = 0; page < kPages; ++page) {
                                        const auto value = static_cast<unsigned>(page) + 1;
                                        require(is_whole(region, page, value), "contents");
                                        store(page_at(region, page).base, value);
                                      }
                                      region = Region();
                                    },
                                    6);
                                require(child == kSucceeded, "each child");
                              }
                              stop = true;
                              for (std::thread& thread : threads) thread.join();
                            },
                            25));
}

TEST_P(Fork, SeveralThreadsForkAtOnce) {
  if (under_sanitizer() && GetParam() == BackendId::uffd_thread)
    GTEST_SKIP() << "its allocator may stay locked in a fork()ed child, which has a thread of ours";
  EXPECT_EQ(kSucceeded, in_child([] {
              Filler filler;
              Region region = make(filler);
              std::vector<std::thread> threads;
              for (std::size_t i = 0; i < 3; ++i) {
                threads.emplace_back([&, i] {
                  for (std::size_t n = 0; n < 10; ++n) {
                    const std::size_t page = i * 10 + n;
                    const End child = in_forked_copy(
                        [&] { require(is_whole(region, page, page + 1), "supplied in the child"); },
                        8);
                    require(child == kSucceeded, "each child");
                  }
                });
              }
              for (std::thread& thread : threads) thread.join();
            }));
}

// The child shares the parent's memory until it execs: its faults are served in place.
TEST_P(Fork, VforkedChildFaultsInTheParentsMemory) {
  EXPECT_EQ(kSucceeded, in_child([] {
              Filler filler;
              static Region region;
              region = make(filler);
              const pid_t child = ::vfork();
              if (child == 0) {
                store(region.data() + 7, 77);
                ::_exit(0);
              }
              require(wait_for(child) == kSucceeded, "the child");
              require(filler.faults == 1 && load(region.data() + 7) == 77, "its store is here");
              must(region.protect(region.range(), Access::read), "protect");
              store(region.data(), 1);
              require(filler.faults == 2, "the parent goes on");
              region = Region();
            }));
}

TEST_P(Fork, SpawnedProgramsRunWhileThreadsFault) {
  EXPECT_EQ(kSucceeded, in_child([] {
              Filler filler;
              Region region = make(filler);
              std::atomic<bool> stop{false};
              std::thread other([&] { disturb(region, 0, stop); });
              for (int i = 0; i < 10; ++i) {
                char path[] = "/bin/true";
                char* arguments[] = {path, nullptr};
                pid_t child = 0;
                require(::posix_spawn(&child, path, nullptr, nullptr, arguments, environ) == 0,
                        "spawn");
                require(wait_for(child) == kSucceeded, "/bin/true");
              }
              stop = true;
              other.join();
            }));
}

void allow_descriptors(int most) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = most < 0 ? limit.rlim_max : static_cast<rlim_t>(most);
  require(::setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
}

// A fork()ed child under a limit of `most` descriptors. wait_for() needs one, so it runs without.
template <class Work>
End in_child_with_descriptors(int most, Work work) {
  allow_descriptors(most);
  const pid_t child = ::fork();
  if (child == 0) {
    work();
    ::_exit(0);
  }
  allow_descriptors(-1);
  return wait_for(child);
}

// A child that cannot have a userfaultfd of its own would read zeroes for data: better no child.
TEST_P(Fork, AChildThatCannotBeArmedSaysWhyAndEnds) {
  if (GetParam() == BackendId::mprotect) GTEST_SKIP() << "its rights survive a fork by themselves";
  EXPECT_EQ(kSucceeded, in_child([] {
              Filler filler;
              Region region = make(filler);
              require(is_whole(region, 0, 1), "before");
              int ends[2];
              require(::pipe2(ends, O_CLOEXEC) == 0, "pipe");
              const int old_stderr = ::dup(STDERR_FILENO);
              ::dup2(ends[1], STDERR_FILENO);
              const End child = in_child_with_descriptors(3, [] {});
              ::dup2(old_stderr, STDERR_FILENO);
              ::close(ends[1]);
              require(child == killed_by(SIGABRT), "the child ends");
              std::array<char, 512> said{};
              require(::read(ends[0], said.data(), said.size() - 1) > 0, "with a line");
              require(std::strstr(said.data(), "could not arm its regions: userfaultfd") != nullptr,
                      "that says why");
              require(is_whole(region, 1, 2), "the parent goes on");
              require(
                  in_forked_copy([&] { require(is_whole(region, 2, 3), "missing"); }) == kSucceeded,
                  "and its next child");
            }));
}

// With every descriptor taken, a child gives up /proc/self/mem, and its number serves the rest.
// What needs that file, filling missing pages past mprotect, is refused: such a page is never
// zeroes.
TEST_P(Fork, AChildWithEveryDescriptorTakenHasTheContentsOrDies) {
  if (under_sanitizer()) GTEST_SKIP() << "it looks at memory through a pipe";
  EXPECT_EQ(kSucceeded, in_child([] {
              Filler filler;
              Region region = make(filler);
              require(is_whole(region, 0, 1), "before");
              const End child = in_child_with_descriptors(::dup(STDERR_FILENO), [&] {
                require(is_whole(region, 0, 1), "a page that was there");
                store(region.data(), 7);
                require(is_whole(region, 1, 2), "a page that was missing");
              });
              require(
                  child == (GetParam() == BackendId::mprotect ? killed_by(SIGSEGV) : kSucceeded),
                  "the child");
              require(is_whole(region, 0, 1) && is_whole(region, 1, 2), "the parent goes on");
            }));
}

// Without a key, pages are what a freeze closes, and the child closes them again.
TEST_P(Fork, AFrozenRegionIsFrozenInTheChildUntilTheChildThawsIt) {
  EXPECT_EQ(kSucceeded, in_child([] {
              RegionOptions options = options_for(GetParam(), FaultKind::write_protected);
              options.freezable = true;
              Region region = must(Region::create(kPages * page_size(), options), "create");
              static std::atomic<int> waiting{0};
              must(region.on_fault(
                       [](void*, const Fault& fault) noexcept {
                         if (!fault.frozen) return Verdict::not_mine;
                         waiting.fetch_add(1);
                         return Verdict::retry;
                       },
                       nullptr),
                   "on_fault");
              store(page_at(region, 3).base, 3);
              must(region.freeze(), "freeze");
              const auto thaw_under_a_writer = [&] {
                require(region.frozen() && waiting == 0, "frozen");
                std::atomic<bool> written{false};
                std::thread writer([&] {
                  store(page_at(region, 3).base, 4);
                  written = true;
                });
                while (waiting == 0 && !written) ::usleep(500);
                require(!written && load(page_at(region, 3).base) == 3, "the writer waits");
                must(region.thaw(), "thaw");
                writer.join();
                require(load(page_at(region, 3).base) == 4 && !region.frozen(), "and goes on");
                must(region.freeze(), "freeze again");
                must(region.thaw(), "thaw again");
              };
              require(in_forked_copy(thaw_under_a_writer) == kSucceeded, "the child");
              thaw_under_a_writer();  // the child's thaw was not the parent's
            }));
}

std::set<int> open_descriptors() {
  std::set<int> open;
  DIR* const directory = ::opendir("/proc/self/fd");
  while (const dirent* entry = ::readdir(directory))
    if (entry->d_name[0] != '.') open.insert(std::atoi(entry->d_name));
  open.erase(::dirfd(directory));
  ::closedir(directory);
  return open;
}

// A handler in the faulting thread that forks, which no program should do: both go on, and both can
// end the region.
TEST(ForkInHandler, BothGoOn) {
  for (const BackendId id : inline_backends_for(FaultKind::write_protected)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                Region region =
                    must(Region::create(page_size(), options_for(id, FaultKind::write_protected)),
                         "create");
                static pid_t child;
                must(region.on_fault(
                         [](void*, const Fault& fault) noexcept {
                           child = ::fork();
                           return fault.region->unprotect(fault.page) ? Verdict::resolved
                                                                      : Verdict::not_mine;
                         },
                         nullptr),
                     "on_fault");
                must(region.protect(region.range(), Access::read), "protect");
                store(region.data(), 1);
                region = Region();
                if (child == 0) ::_exit(0);
                require(wait_for(child) == kSucceeded, "the child's end");
              }));
  }
}

TEST(ForkExec, NoDescriptorOfOursSurvivesAnExec) {
  EXPECT_EQ(kSucceeded, in_child([] {
              const std::set<int> before = open_descriptors();
              std::vector<Region> regions;
              for (const BackendId id : kTrapping) {
                for (const Backing backing : {Backing::anonymous, Backing::memfd}) {
                  RegionOptions options = options_for(id, FaultKind::missing);
                  options.backing = backing;
                  if (auto region = Region::create(page_size(), options))
                    regions.push_back(std::move(*region));
                }
              }
              for (const DirtyForm form : {DirtyForm::scan, DirtyForm::traps, DirtyForm::ring}) {
                RegionOptions options;
                options.dirty = form;
                if (auto region = Region::create(page_size(), options))
                  regions.push_back(std::move(*region));
              }
              require(regions.size() >= 2, "some regions");
              const auto check = [&before] {
                std::size_t ours = 0;
                for (const int descriptor : open_descriptors()) {
                  if (before.count(descriptor) != 0) continue;
                  require((::fcntl(descriptor, F_GETFD) & FD_CLOEXEC) != 0, "FD_CLOEXEC");
                  ++ours;
                }
                require(ours > 0, "there are descriptors");
              };
              check();
              // A sanitizer opens files of its own in each thread that starts.
              if (!under_sanitizer())
                require(in_forked_copy(check) == kSucceeded, "the child's own descriptors too");
              regions.clear();
              // The process's own files stay open (two of /proc, one that names it); nothing is
              // left of the regions.
              require(open_descriptors().size() <= before.size() + 3, "closed with their regions");
            }));
}

// The child writes; the parent's tracking must not see it, the child's must.
TEST(ForkDirty, EachSideTracksItsOwnWrites) {
  for (const DirtyForm form : {DirtyForm::scan, DirtyForm::traps, DirtyForm::ring}) {
    SCOPED_TRACE(static_cast<int>(form));
    RegionOptions options;
    options.dirty = form;
    if (!Region::create(page_size(), options)) continue;
    EXPECT_EQ(kSucceeded, in_child([options] {
                Region region = must(Region::create(kPages * page_size(), options), "create");
                for (std::size_t i = 0; i < kPages; ++i) store(page_at(region, i).base, 1);
                must(region.arm_dirty(region.range()), "arm");
                store(page_at(region, 2).base, 2);
                const End child = in_forked_copy([&] {
                  std::vector<PageRange> found;
                  must(region.dirty(region.range(), found), "the first look in the child");
                  const bool has_page_2 =
                      std::any_of(found.begin(), found.end(), [&](const PageRange& range) {
                        return range.contains(page_at(region, 2).base);
                      });
                  require(has_page_2, "written before the fork, not reported yet: reported");
                  found.clear();
                  must(region.dirty(region.range(), found), "a quiet look");
                  require(found.empty(), "nothing was written");
                  store(page_at(region, 9).base, 3);
                  must(region.dirty(region.range(), found), "a look after a write");
                  require(found.size() == 1 && found[0] == page_at(region, 9), "exactly that page");
                });
                require(child == kSucceeded, "the child");
                store(page_at(region, 4).base, 5);
                std::vector<PageRange> found;
                must(region.dirty(region.range(), found), "the parent's look");
                require(found.size() == 2 && found[0] == page_at(region, 2) &&
                            found[1] == page_at(region, 4),
                        "the parent's own writes, and nothing of the child's");
              }));
  }
}

// A lock order: fork() takes every lock of the library, and so does a lift in another thread.
TEST(ForkLift, ForksWhileAnotherThreadLiftsDoNotDeadlock) {
  RegionOptions options;
  options.liftable = true;
  options.faults = FaultKind::write_protected;
  if (!Region::create(1_GiB, options)) GTEST_SKIP() << "no lift here";
  EXPECT_EQ(kSucceeded, in_child(
                            [options] {
                              Region region = must(Region::create(1_GiB, options), "create");
                              std::atomic<bool> stop{false};
                              std::atomic<int> lifts{0};
                              std::thread lifting([&] {
                                while (!stop) {
                                  store(region.data(), 7);
                                  {
                                    const Lift lift = must(region.lift(), "lift");
                                    require(load(lift.at(region.data())) == 7, "the window");
                                  }
                                  require(load(region.data()) == 7, "restored");
                                  lifts.fetch_add(1);
                                }
                              });
                              while (lifts == 0) ::usleep(1000);
                              for (int i = 0; i < 60; ++i) {
                                const End child = wait_for(start_child([] {}, 5), 5);
                                require(child == kSucceeded, "each child");
                              }
                              stop = true;
                              lifting.join();
                            },
                            15));
}

// Every third page is one that nobody ever wrote.
unsigned lifted_value(std::size_t page) {
  return page % 3 == 2 ? 0 : static_cast<unsigned>(page) + 1;
}
void write_lifted(Region& region) {
  for (std::size_t page = 0; page < kPages; ++page)
    if (lifted_value(page) != 0)
      std::memset(page_at(region, page).base, static_cast<int>(page) + 1, page_size());
}
bool has_contents(const Region& region) {
  for (std::size_t page = 0; page < kPages; ++page)
    if (!is_whole(region, page, lifted_value(page))) return false;
  return true;
}

// Every way in which a region can be lifted.
std::vector<RegionOptions> lift_ways() {
  std::vector<RegionOptions> ways;
  for (const BackendId id : {BackendId::uffd_inline, BackendId::uffd_thread}) {
    for (const FaultKind kind :
         {FaultKind::write_protected, FaultKind::missing, FaultKind::no_access}) {
      RegionOptions options = options_for(id, kind);
      options.liftable = true;
      if (Region::create(page_size(), options)) ways.push_back(options);
    }
  }
  return ways;
}
std::string words(const RegionOptions& way) {
  const bool missing = way.faults.has(FaultKind::missing);
  const bool writes = way.faults.has(FaultKind::write_protected);
  return std::string(name(way.backend)) + (missing  ? ", missing"
                                           : writes ? ", write_protected"
                                                    : ", no_access");
}

// The window is the child's own copy, like all memory.
void lift_and_fork(const RegionOptions& way, bool finishes) {
  Region region = must(Region::create(kPages * page_size(), way), "create");
  write_lifted(region);
  Lift lift = must(region.lift(), "lift");
  for (std::size_t page = 0; page < kPages; page += 4)
    require(load(page_at(region, page).base) == lifted_value(page), "some are back");
  const auto in_the_child = [&] {
    if (finishes) must(lift.finish(), "finish");
    require(has_contents(region), "what was lifted");
    store(page_at(region, 1).base, 99);
    must(lift.finish(), "finish, or finish again");
    require(load(page_at(region, 1).base) == 99, "and it stays");
  };
  require(in_forked_copy(in_the_child, 8) == kSucceeded, "the child");
  require(has_contents(region), "the parent's contents");
}

TEST(ForkLift, AChildFindsTheContents) {
  for (const RegionOptions& way : lift_ways()) {
    for (const bool finishes : {false, true}) {
      SCOPED_TRACE(words(way) + (finishes ? ": the child finishes" : ": the child touches pages"));
      EXPECT_EQ(kSucceeded, in_child([&] { lift_and_fork(way, finishes); }));
    }
  }
}

TEST(ForkLift, AChildOfARegionThatWasLiftedFindsItsContentsAndHoles) {
  for (const RegionOptions& way : lift_ways()) {
    SCOPED_TRACE(words(way));
    EXPECT_EQ(kSucceeded, in_child([&way] {
                Region region = must(Region::create(kPages * page_size(), way), "create");
                write_lifted(region);
                { const Lift lift = must(region.lift(), "lift"); }
                const auto in_the_child = [&] {
                  require(has_contents(region), "what was lifted, and holes");
                  { const Lift again = must(region.lift(), "the child lifts"); }
                  require(has_contents(region), "once more");
                  if (!way.faults.has(FaultKind::write_protected)) return;
                  Opener opener;
                  must(region.on_fault(Opener::open, &opener), "on_fault");
                  must(region.protect(region.range(), Access::read), "protect");
                  store(page_at(region, 2).base, 1);
                  store(page_at(region, 3).base, 1);
                  require(opener.faults == 2, "a hole and a page");
                };
                require(in_forked_copy(in_the_child, 8) == kSucceeded, "the child");
                require(has_contents(region), "the parent's contents");
              }));
  }
}

// fork() falls anywhere into a lift: what is half back in the parent is whole in the child.
void fork_while_lifting(const RegionOptions& way) {
  Region region = must(Region::create(kPages * page_size(), way), "create");
  write_lifted(region);
  std::atomic<bool> stop{false};
  std::atomic<int> lifts{0};
  std::thread lifting([&] {
    while (!stop) {
      Lift lift = must(region.lift(), "lift");
      for (std::size_t page = 0; page < kPages; page += 5)
        require(is_whole(region, page, lifted_value(page)), "faults");
      must(lift.finish(), "finish");
      lifts.fetch_add(1);
    }
  });
  while (lifts == 0) ::usleep(500);
  for (int i = 0; i < 60; ++i) {
    const End child = in_forked_copy([&] { require(has_contents(region), "contents"); }, 6);
    require(child == kSucceeded, "each child");
  }
  stop = true;
  lifting.join();
  require(has_contents(region), "the parent's contents");
}

TEST(ForkLift, ChildrenOfAProcessThatLiftsAllTheTimeFindTheContents) {
  for (const RegionOptions& way : lift_ways()) {
    SCOPED_TRACE(words(way));
    EXPECT_EQ(kSucceeded, in_child([&] { fork_while_lifting(way); }));
  }
}

// A system call of the child on its missing page, served by the child's own threads.
TEST(ForkKernelAccess, ChildsThreadsServeItsSystemCalls) {
  if (!capabilities(BackendId::uffd_thread, Backing::anonymous).kernel_accesses)
    GTEST_SKIP() << "kernel-mode userfaultfd is not allowed";
  EXPECT_EQ(kSucceeded, in_child([] {
              RegionOptions options = options_for(BackendId::uffd_thread, FaultKind::missing);
              options.kernel_accesses = true;
              Region region = must(Region::create(kPages * page_size(), options), "create");
              Filler filler;
              must(region.on_fault(Filler::fill, &filler), "on_fault");
              const End child = in_forked_copy([&] {
                int ends[2];
                require(::pipe2(ends, O_CLOEXEC) == 0 && ::write(ends[1], "hello", 5) == 5, "pipe");
                require(::read(ends[0], page_at(region, 3).base, 5) == 5,
                        "read into a missing page");
                require(load(page_at(region, 3).base + 4) == 'o', "what was read");
                require(load(page_at(region, 3).base + 5) == 4, "around it, what was supplied");
              });
              require(child == kSucceeded && filler.faults == 0, "the child, by itself");
            }));
}

// A page that another process holds a copy of cannot be moved; supply copies it then (hazard 22).
TEST(ForkMove, ABufferSharedWithAChildIsCopied) {
  for (const BackendId id : backends_for(FaultKind::missing)) {
    SCOPED_TRACE(name(id));
    EXPECT_EQ(kSucceeded, in_child([id] {
                Region region = must(
                    Region::create(4 * page_size(), options_for(id, FaultKind::missing)), "create");
                std::byte* const buffer = foreign_pages(4, PROT_READ | PROT_WRITE);
                std::memset(buffer, 0x5a, 4 * page_size());
                const pid_t child = start_child([] { ::pause(); });
                const Pages filled =
                    must(region.supply(region.range(), buffer, Supply::move), "supply");
                require(filled == Pages{4}, "all of it");
                for (std::size_t i = 0; i < 4; ++i) require(is_whole(region, i, 0x5a), "contents");
                ::kill(child, SIGKILL);
                wait_for(child);
              }));
  }
}

}  // namespace
}  // namespace pagetrap::hazards
