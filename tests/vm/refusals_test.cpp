// Refusals of the kernel at every call: creation cleans up, operations say which call failed, the
// region goes on, and dirty() loses no page.
#include <dirent.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <fstream>
#include <memory>

#include "conformance/fixture.hpp"
#include "sys/injection.hpp"

namespace pagetrap::conformance {
namespace {

using sys::Call;

constexpr std::size_t kPages = 64;

struct NamedCall {
  Call call;
  const char* name;
};
constexpr std::array<NamedCall, 16> kCalls = {{{Call::mprotect, "mprotect"},
                                               {Call::madvise, "madvise"},
                                               {Call::mmap, "mmap"},
                                               {Call::memfd_create, "memfd_create"},
                                               {Call::userfaultfd, "userfaultfd"},
                                               {Call::uffd_register, "uffd_register"},
                                               {Call::uffd_write_protect, "uffd_write_protect"},
                                               {Call::uffd_copy, "uffd_copy"},
                                               {Call::uffd_zero, "uffd_zero"},
                                               {Call::uffd_continue, "uffd_continue"},
                                               {Call::uffd_move, "uffd_move"},
                                               {Call::pagemap_scan, "pagemap_scan"},
                                               {Call::mremap, "mremap"},
                                               {Call::pwrite, "pwrite"},
                                               {Call::pkey_alloc, "pkey_alloc"},
                                               {Call::perf_event_open, "perf_event_open"}}};

// Injects for a scope.
class Injected {
 public:
  Injected(Call call, int error, int skip = 0, int times = 1) {
    sys::inject(call, error, skip, times);
  }
  ~Injected() { sys::inject(Call::none, 0); }
  Injected(const Injected&) = delete;
  Injected& operator=(const Injected&) = delete;
};

std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* const directory = ::opendir("/proc/self/fd");
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

std::size_t mapping_lines() {
  std::ifstream maps("/proc/self/maps");
  return static_cast<std::size_t>(std::count(std::istreambuf_iterator<char>(maps), {}, '\n'));
}

std::size_t mapped_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t pages = 0;
  statm >> pages;
  return bytes(Pages{pages});
}

class Refusals : public Conformance {
 protected:
  void TearDown() override { sys::inject(Call::none, 0); }

  /// All that this cell can do at once.
  RegionOptions everything(DirtyForm dirty, bool freezable, bool liftable,
                           std::size_t pages = kPages) {
    FaultSet faults;
    for (const FaultKind kind :
         {FaultKind::missing, FaultKind::minor, FaultKind::no_access, FaultKind::write_protected}) {
      const bool by_kernel = dirty == DirtyForm::scan || dirty == DirtyForm::ring;
      if (kind == FaultKind::write_protected && by_kernel && is_uffd()) continue;
      if (can_raise(faults | kind)) faults = faults | kind;
    }
    RegionOptions asked = options(pages, faults);
    asked.dirty = dirty;
    asked.freezable = freezable;
    asked.liftable = liftable;
    asked.on_fork = ForkPolicy::absent;  // one more call
    return asked;
  }
};

TEST_P(Refusals, CreationFailsCleanly) {
  std::vector<RegionOptions> variants = {everything(DirtyForm::none, false, false)};
  if (can().per_page) variants.push_back(everything(DirtyForm::traps, true, false));
  if (has_feature("uffd.wp_async") && has_feature("pagemap_scan") && backing() != Backing::file) {
    variants.push_back(everything(DirtyForm::scan, false, false));
    if (has_feature("perf.user")) variants.push_back(everything(DirtyForm::ring, false, false));
  }
  if (is_uffd() && !is_shared() && has_feature("uffd.event_remap"))
    variants.push_back(everything(DirtyForm::none, false, true));
  unsigned failures = 0;
  for (std::size_t v = 0; v < variants.size(); ++v) {
    { ASSERT_TRUE(Region::create(bytes(Pages{kPages}), variants[v])) << "variant " << v; }
    for (const NamedCall& call : kCalls) {
      for (int skip = 0; skip < 4; ++skip) {
        for (const int error : {ENOMEM, EAGAIN}) {
          SCOPED_TRACE(testing::Message()
                       << call.name << " call " << skip << " errno " << error << " variant " << v);
          constexpr int kTimes = 8;
          std::size_t fds = 0;
          std::size_t mappings = 0;
          for (int time = 0; time < kTimes; ++time) {
            if (time == 2) {
              fds = open_descriptors();
              mappings = mapping_lines();
            }
            sys::inject(call.call, error, skip);
            const auto made = Region::create(bytes(Pages{kPages}), variants[v]);
            sys::inject(Call::none, 0);
            if (made) continue;
            failures += 1;
            EXPECT_EQ(made.error().number, error) << describe(made.error());
            EXPECT_NE(std::string(made.error().operation), "");
          }
          EXPECT_EQ(open_descriptors(), fds);
          EXPECT_LT(mapping_lines(), mappings + kTimes - 3);
        }
      }
    }
    Region region = make_with(kPages, variants[v]);
    EXPECT_TRUE(region.valid());
  }
  if (!is_null()) {
    EXPECT_GT(failures, 0U);
  }
}

// A lost mapping may have been merged with another one, so its size is looked for too.
TEST_P(Refusals, ARefusedCreationKeepsNoAddressSpace) {
  constexpr std::size_t kMany = 64_MiB;
  const RegionOptions asked = everything(DirtyForm::none, false, false, pages_for(kMany).count());
  { ASSERT_TRUE(Region::create(kMany, asked)); }
  unsigned failures = 0;
  for (const NamedCall& call : kCalls) {
    for (int skip = 0; skip < 4; ++skip) {
      SCOPED_TRACE(testing::Message() << call.name << " call " << skip);
      const std::size_t descriptors = open_descriptors();
      const std::size_t mapped = mapped_bytes();
      sys::inject(call.call, ENOMEM, skip);
      const auto made = Region::create(kMany, asked);
      sys::inject(Call::none, 0);
      if (made) continue;  // that call is not made that often
      failures += 1;
      EXPECT_EQ(made.error().number, ENOMEM) << describe(made.error());
      EXPECT_STRNE(made.error().operation, "");
      EXPECT_EQ(open_descriptors(), descriptors);
      EXPECT_LT(mapped_bytes(), mapped + kMany / 2);
    }
  }
  if (!is_null()) {
    EXPECT_GT(failures, 0U);
  }
}

TEST_P(Refusals, DirtyFormsThatCannotStartSayWhy) {
  RegionOptions asked = options(kPages, kNoFaults);
  asked.dirty = DirtyForm::ring;
  const Injected injected(Call::perf_event_open, EACCES);
  const auto made = Region::create(bytes(Pages{kPages}), asked);
  ASSERT_FALSE(made);
  EXPECT_TRUE(made.error().number == EACCES || made.error().number == ENOTSUP)
      << describe(made.error());
}

// The end of a region cannot fail, whatever the kernel refuses.
TEST_P(Refusals, RegionsEndAllTheSame) {
  for (const NamedCall& call : kCalls) {
    const Ending ending = in_child(
        [&] {
          RegionOptions asked = everything(DirtyForm::none, false, false);
          auto made = Region::create(bytes(Pages{kPages}), asked);
          CHILD_CHECK(made);
          const PageRange range = made->range();
          {
            const Injected injected(call.call, ENOMEM, 0, 1000);
            const Region gone(std::move(*made));
          }
          unsigned char ignored = 0;
          CHILD_CHECK(::mincore(range.base, page_size(), &ignored) != 0);
          return 0;
        },
        5);
    EXPECT_EQ(ending.status, 0) << call.name << ": signal " << ending.signal
                                << (ending.signal == SIGALRM ? ", it hung" : "") << ending.output;
  }
}

// Each operation, refused at each call in turn, says so; and succeeds when asked again.
TEST_P(Refusals, OperationsReportTheCallAndCanBeRepeated) {
  const Pattern source(kPages, 1);
  std::unique_ptr<Pattern> movable;
  struct Operation {
    const char* name;
    bool possible;
    std::function<Error(Region&)> run;
  };
  const auto error_of = [](const auto& result) { return result ? Error{} : result.error(); };
  const bool per_page = can().per_page;
  const bool missing = can_raise(FaultKind::missing);
  const bool minor = can_raise(FaultKind::minor);
  const bool none = can_raise(FaultKind::no_access);
  const auto part = [&](Region& region) {
    return per_page ? pages_at(region, 8, 24) : region.range();
  };
  const std::vector<Operation> operations = {
      {"protect read", true,
       [&](Region& region) { return error_of(region.protect(part(region), Access::read)); }},
      {"protect none", none,
       [&](Region& region) { return error_of(region.protect(part(region), Access::none)); }},
      {"unprotect", true, [&](Region& region) { return error_of(region.unprotect(part(region))); }},
      {"discard", true, [&](Region& region) { return error_of(region.discard(part(region))); }},
      {"supply copy", missing,
       [&](Region& region) {
         return error_of(region.supply(part(region), source.page(8), Supply::copy));
       }},
      {"discard again", missing,
       [&](Region& region) { return error_of(region.discard(part(region))); }},
      {"supply move", missing,
       [&](Region& region) {
         return error_of(region.supply(part(region), movable->page(8), Supply::move));
       }},
      {"discard for zero", missing,
       [&](Region& region) { return error_of(region.discard(part(region))); }},
      {"supply zero", missing,
       [&](Region& region) {
         return error_of(region.supply(part(region), nullptr, Supply::zero));
       }},
      {"evict", minor, [&](Region& region) { return error_of(region.evict(part(region))); }},
      {"publish", minor,
       [&](Region& region) {
         return error_of(region.supply(part(region), nullptr, Supply::publish));
       }},
      {"guard", backend() != BackendId::pkey,
       [&](Region& region) { return error_of(region.guard(pages_at(region, 60))); }},
      {"unguard", backend() != BackendId::pkey,
       [&](Region& region) { return error_of(region.unguard(pages_at(region, 60))); }},
  };
  for (const NamedCall& call : kCalls) {
    for (int skip = 0; skip < 3; ++skip) {
      FaultLog log;
      log.source = source.data();
      movable = std::make_unique<Pattern>(kPages, 2);
      FaultSet faults = FaultKind::write_protected;
      for (const FaultKind kind : {FaultKind::missing, FaultKind::minor, FaultKind::no_access})
        if (can_raise(faults | kind)) faults = faults | kind;
      Region region = make(kPages, faults, &log);
      ASSERT_TRUE(region.valid());
      ASSERT_TRUE(region.unprotect(region.range()));
      write_stamps(region);
      for (const Operation& operation : operations) {
        if (!operation.possible) continue;
        SCOPED_TRACE(testing::Message() << operation.name << ": " << call.name << " call " << skip);
        Error refused;
        {
          const Injected injected(call.call, ENOMEM, skip);
          refused = operation.run(region);
        }
        if (refused.number == 0) continue;
        EXPECT_EQ(refused.number, ENOMEM) << describe(refused);
        EXPECT_NE(std::string(refused.operation), "");
        EXPECT_TRUE(refused.range.empty() || region.range().contains(refused.range));
        const Error again = operation.run(region);
        EXPECT_EQ(again.number, 0) << describe(again);
        if (again.number != 0) return;
      }
      // Pages that none of it was about are as they were; all others can be written.
      for (std::size_t i = 0; i < kPages; ++i) {
        const bool aside = per_page && i != 60 && (i < 8 || i >= 32);
        if (aside) {
          EXPECT_EQ(load(region, page_at(region, i), ways().back()), stamp(i)) << i;
        }
        store(region, page_at(region, i), i, ways().back());
        EXPECT_EQ(load(region, page_at(region, i), ways().back()), i);
      }
      EXPECT_EQ(log.failures.load(), 0) << "errno " << log.last_error.load();
    }
  }
}

// Refused for good: where there are two ways to protect, neither goes.
TEST_P(Refusals, ProtectSaysWhereItWasRefused) {
  if (!is_uffd() && backend() != BackendId::mprotect) GTEST_SKIP() << "protects by other calls";
  FaultLog log;
  Region region = make(kPages, FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  write_stamps(region);
  {
    const Injected injected(is_uffd() ? Call::uffd_write_protect : Call::mprotect, ENOMEM, 0, 100);
    const auto refused = region.protect(region.range(), Access::read);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().number, ENOMEM);
    EXPECT_EQ(refused.error().range.base, region.data());
  }
  ASSERT_TRUE(region.protect(region.range(), Access::read));
  EXPECT_TRUE(region.touch(region.data(), true));
  EXPECT_EQ(log.count(FaultKind::write_protected), 1U);
}

TEST_P(Refusals, ARefusedFillLeavesThePageMissing) {
  if (!can_raise(FaultKind::missing)) GTEST_SKIP() << "cannot raise missing faults";
  if (is_null()) GTEST_SKIP() << "fills without the kernel";
  const std::vector<Call> calls = is_uffd() ? std::vector<Call>{Call::uffd_copy}
                                            : std::vector<Call>{Call::pwrite, Call::mprotect};
  const Pattern source(4);
  for (const Call call : calls) {
    Region region = make(4, FaultKind::missing);
    ASSERT_TRUE(region.valid());
    const PageRange page = pages_at(region, 1);
    {
      const Injected injected(call, ENOSPC);
      const auto refused = region.supply(page, source.page(1), Supply::copy);
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().number, ENOSPC);
    }
    EXPECT_EQ(region.page_state(page.base), PageState::missing);
    const auto filled = region.supply(page, source.page(1), Supply::copy);
    ASSERT_TRUE(filled) << describe(filled.error());
    EXPECT_EQ(*filled, Pages{1});
    EXPECT_TRUE(page_is(page.base, stamp(1)));
  }
}

// EAGAIN is what userfaultfd says while an event is unread: tried again, not passed on.
TEST_P(Refusals, AgainIsTriedAgain) {
  if (!is_uffd()) GTEST_SKIP() << "userfaultfd only";
  const Pattern source(kPages, 1);
  for (const Call call : {Call::uffd_copy, Call::uffd_zero, Call::uffd_write_protect}) {
    Region region = make(kPages, FaultKind::missing | FaultKind::write_protected);
    ASSERT_TRUE(region.valid());
    const Injected injected(call, EAGAIN, 0, 5);
    EXPECT_EQ(region.supply(pages_at(region, 0, 8), source.data(), Supply::copy).value(), Pages{8});
    EXPECT_EQ(region.supply(pages_at(region, 8, 8), nullptr, Supply::zero).value(), Pages{8});
    EXPECT_TRUE(region.protect(pages_at(region, 0, 16), Access::read));
    for (std::size_t i = 0; i < 16; ++i)
      EXPECT_TRUE(page_is(page_at(region, i), i < 8 ? stamp(i, 1) : 0)) << i;
  }
}

TEST_P(Refusals, AHandlerThatWasRefusedMayRetry) {
  if (!can_raise(FaultKind::missing)) GTEST_SKIP() << "cannot raise missing faults";
  struct Stubborn {
    const Pattern source{kPages};
    std::atomic<unsigned> refused{0};
    static Verdict on_fault(void* self, const Fault& fault) noexcept {
      auto& me = *static_cast<Stubborn*>(self);
      const std::size_t index = index_in(*fault.region, fault.page.base);
      const auto done = fault.region->supply(fault.page, me.source.page(index), Supply::copy);
      if (done) return Verdict::resolved;
      me.refused.fetch_add(1);
      return Verdict::retry;
    }
  };
  for (const Call call : {Call::uffd_copy, Call::pwrite, Call::mprotect}) {
    Stubborn stubborn;
    Region region = make(kPages, FaultKind::missing);
    ASSERT_TRUE(region.valid());
    region.on_fault(Stubborn::on_fault, &stubborn).value();
    const Injected injected(call, ENOMEM, 3, 4);
    for (std::size_t i = 0; i < kPages; ++i)
      EXPECT_EQ(load(region, page_at(region, i), ways().back()), stamp(i));
    region.quiesce();
    const bool used = is_uffd() ? call == Call::uffd_copy
                                : backend() == BackendId::mprotect && call != Call::uffd_copy;
    EXPECT_EQ(stubborn.refused.load(), used ? 4U : 0U);
  }
}

// What dirty() reports, with refusals in between: nothing that was written is missing from the
// union.
TEST_P(Refusals, DirtyLosesNoPage) {
  Random random(65530);
  for (const DirtyForm form : {DirtyForm::scan, DirtyForm::traps, DirtyForm::ring}) {
    const bool by_kernel = form != DirtyForm::traps;
    if (by_kernel && (!has_feature("uffd.wp_async") || !has_feature("pagemap_scan") ||
                      backing() == Backing::file))
      continue;
    if (form == DirtyForm::ring && !has_feature("perf.user")) continue;
    if (!by_kernel && !can().per_page) continue;
    RegionOptions asked = options(kPages, kNoFaults);
    asked.dirty = form;
    FaultLog log;
    Region region = make_with(kPages, asked, &log);
    ASSERT_TRUE(region.valid());
    ASSERT_TRUE(region.arm_dirty(region.range()));
    const Way way = ways().back();
    for (const NamedCall& call : kCalls) {
      for (int skip = 0; skip < 4; ++skip) {
        SCOPED_TRACE(testing::Message()
                     << "form " << static_cast<int>(form) << ' ' << call.name << ' ' << skip);
        std::vector<bool> written(kPages, false);
        for (unsigned w = 0; w < 20; ++w) {
          const std::size_t i = random.below(kPages);
          store(region, page_at(region, i), random.next(), way);
          written[i] = true;
        }
        std::vector<PageRange> found;
        bool refused = false;
        {
          const Injected injected(call.call, ENOMEM, skip, 2);
          const auto pages = region.dirty(region.range(), found);
          refused = !pages;
          if (refused) {
            EXPECT_EQ(pages.error().number, ENOMEM) << describe(pages.error());
          }
        }
        const std::size_t between = random.below(kPages);
        store(region, page_at(region, between), random.next(), way);
        written[between] = true;
        ASSERT_TRUE(region.dirty(region.range(), found));
        for (std::size_t i = 0; i < kPages; ++i) {
          const bool reported = std::any_of(
              found.begin(), found.end(),
              [&](const PageRange& range) { return range.contains(page_at(region, i)); });
          EXPECT_TRUE(reported || !written[i]) << "page " << i << " was lost";
          if (!refused) {
            EXPECT_TRUE(written[i] || !reported) << "page " << i;
          }
        }
        found.clear();
        EXPECT_EQ(region.dirty(region.range(), found).value(), Pages{0});
        if (HasFailure()) return;
      }
    }
  }
}

// The simplest of these cases: two pages written, and a collection that is refused as a whole.
TEST_P(Refusals, ARefusedCollectionKeepsItsPages) {
  for (const DirtyForm form : {DirtyForm::scan, DirtyForm::traps, DirtyForm::ring}) {
    RegionOptions asked = options(kPages, kNoFaults);
    asked.dirty = form;
    auto made = Region::create(bytes(Pages{kPages}), asked);
    if (!made) continue;
    Region& region = *made;
    write_stamps(region);
    ASSERT_TRUE(region.arm_dirty(region.range()));
    for (const std::size_t i : {std::size_t{3}, std::size_t{40}})
      store(region, page_at(region, i), i, ways().back());
    std::vector<PageRange> found;
    const bool traps = form == DirtyForm::traps;
    {
      const Call protects = is_uffd() ? Call::uffd_write_protect : Call::mprotect;
      const Injected injected(traps ? protects : Call::pagemap_scan, ENOMEM, 0, traps ? 100 : 1);
      const bool collected = static_cast<bool>(region.dirty(region.range(), found));
      EXPECT_EQ(collected, traps && is_null()) << "form " << static_cast<int>(form);
    }
    ASSERT_TRUE(region.dirty(region.range(), found));
    for (const std::size_t i : {std::size_t{3}, std::size_t{40}}) {
      EXPECT_TRUE(
          std::any_of(found.begin(), found.end(),
                      [&](const PageRange& run) { return run.contains(page_at(region, i)); }))
          << "form " << static_cast<int>(form) << " page " << i;
    }
  }
}

TEST_P(Refusals, LiftIsUndoneOrCanBeFinished) {
  if (!is_uffd() || is_shared()) GTEST_SKIP() << "no lift";
  if (!has_feature("uffd.event_remap") || !has_feature("mremap_dontunmap"))
    GTEST_SKIP() << "the kernel has no lift";
  RegionOptions asked = options(kPages, FaultKind::write_protected);
  asked.liftable = true;
  for (const NamedCall& call : kCalls) {
    for (int skip = 0; skip < 3; ++skip) {
      SCOPED_TRACE(testing::Message() << call.name << ' ' << skip);
      FaultLog log;
      Region region = make_with(kPages, asked, &log);
      ASSERT_TRUE(region.valid());
      write_stamps(region);
      {
        const Injected injected(call.call, ENOMEM, skip);
        auto lifted = region.lift();
        if (lifted) {
          const auto finished = lifted->finish();
          if (!finished) {
            EXPECT_EQ(finished.error().number, ENOMEM);
            sys::inject(Call::none, 0);
            const auto again = lifted->finish();
            EXPECT_TRUE(again) << describe(again.error());
          }
        } else {
          EXPECT_EQ(lifted.error().number, ENOMEM) << describe(lifted.error());
          EXPECT_NE(std::string(lifted.error().operation), "");
        }
        if (call.call == Call::mremap && skip == 0) {
          EXPECT_FALSE(lifted);
        }
      }
      for (std::size_t i = 0; i < kPages; ++i)
        EXPECT_EQ(load(region, page_at(region, i), Way::plain), stamp(i)) << i;
      auto again = region.lift();
      ASSERT_TRUE(again) << describe(again.error());
      EXPECT_TRUE(page_is(again->at(page_at(region, 5)), stamp(5)));
      ASSERT_TRUE(again->finish());
      for (std::size_t i = 0; i < kPages; ++i)
        EXPECT_EQ(load(region, page_at(region, i), Way::plain), stamp(i)) << i;
      if (HasFailure()) return;
    }
  }
}

// A large region of which two pages are there, one of them written after the refusal.
TEST_P(Refusals, ARefusedLiftChangesNothing) {
  if (!is_uffd() || is_shared()) GTEST_SKIP() << "no lift";
  RegionOptions asked = options(pages_for(1_GiB).count(), FaultKind::write_protected);
  asked.liftable = true;
  auto made = Region::create(1_GiB, asked);
  if (!made) GTEST_SKIP() << describe(made.error());
  Region& region = *made;
  store(region, page_at(region, 5), 7, Way::plain);
  {
    const Injected injected(Call::mremap, ENOMEM);
    const auto refused = region.lift();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().number, ENOMEM);
  }
  EXPECT_EQ(load(region, page_at(region, 5), Way::plain), 7U);
  store(region, page_at(region, 6), 8, Way::plain);
  auto lift = region.lift();
  ASSERT_TRUE(lift) << describe(lift.error());
  EXPECT_EQ(*reinterpret_cast<const std::uint64_t*>(lift->at(page_at(region, 5))), 7U);
  ASSERT_TRUE(lift->finish());
  EXPECT_EQ(load(region, page_at(region, 5), Way::plain), 7U);
  EXPECT_EQ(load(region, page_at(region, 6), Way::plain), 8U);
}

INSTANTIATE_TEST_SUITE_P(Vm, Refusals, testing::ValuesIn(all_combinations()), test_name);

}  // namespace
}  // namespace pagetrap::conformance
