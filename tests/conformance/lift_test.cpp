// Lift: the page tables of a whole region moved into a window.
#include <thread>

#include "conformance/fixture.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::conformance {
namespace {

constexpr std::size_t kPages = 1024;

class Lifts : public Conformance {
 protected:
  std::string obstacle() override {
    if (!has_feature("uffd.event_remap")) return "the kernel lacks UFFD_FEATURE_EVENT_REMAP";
    if (!has_feature("mremap_dontunmap")) return "the kernel lacks MREMAP_DONTUNMAP";
    return {};
  }
  Region make_liftable(FaultSet faults, FaultLog* log = nullptr) {
    RegionOptions asked = options(kPages, faults);
    asked.liftable = true;
    return make_with(kPages, asked, log);
  }
  /// Every third page stays a hole.
  static void fill(Region& region, std::uint64_t generation) {
    for (std::size_t i = 0; i < kPages; ++i) {
      if (i % 3 == 2) continue;
      region.touch(page_at(region, i), true);
      fill_page(page_at(region, i), stamp(i, generation));
    }
  }
  static std::uint64_t contents(std::size_t i, std::uint64_t generation) {
    return i % 3 == 2 ? 0 : stamp(i, generation);
  }
};

FaultSet kinds_of(unsigned which) {
  if (which == 0) return FaultKind::write_protected;
  return FaultKind::missing;
}

TEST_P(Lifts, WindowHoldsTheContentsAndFaultsBringThemBack) {
  for (const unsigned which : {0U, 1U}) {
    SCOPED_TRACE(which == 0 ? "write_protected" : "missing");
    FaultLog log;
    log.how = Supply::zero;
    Region region = make_liftable(kinds_of(which), &log);
    ASSERT_TRUE(region.valid());
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(region.data()) % 1_GiB, 0U);
    region.unprotect(region.range()).value();
    fill(region, 1);
    if (which == 1) region.on_fault(nullptr, nullptr).value();  // pagetrap restores by itself
    {
      auto lifted = region.lift();
      ASSERT_TRUE(lifted) << describe(lifted.error());
      const auto twice = region.lift();
      ASSERT_FALSE(twice);
      EXPECT_EQ(twice.error().number, EALREADY);
      EXPECT_EQ(lifted->window().length, Pages{kPages});
      // Some through the window only, some by faults first.
      for (std::size_t i = 0; i < kPages; ++i) {
        if (i % 5 == 0) {
          EXPECT_TRUE(page_is(lifted->at(page_at(region, i)), contents(i, 1))) << i;
        } else if (i % 5 < 3) {
          EXPECT_EQ(load(region, page_at(region, i) + 8, ways().back()), contents(i, 1)) << i;
          store(region, page_at(region, i), 7, ways().back());
        }
      }
      const auto finished = lifted->finish();
      ASSERT_TRUE(finished) << describe(finished.error());
      EXPECT_TRUE(lifted->finish());
    }
    for (std::size_t i = 0; i < kPages; ++i) {
      const bool written = i % 5 != 0 && i % 5 < 3;
      EXPECT_EQ(load(region, page_at(region, i), ways().back()), written ? 7 : contents(i, 1)) << i;
      EXPECT_EQ(load(region, page_at(region, i) + 8, ways().back()), contents(i, 1)) << i;
    }
  }
}

TEST_P(Lifts, TwiceInARow) {
  Region region = make_liftable(FaultKind::write_protected);
  ASSERT_TRUE(region.valid());
  fill(region, 0);
  for (std::uint64_t round = 1; round <= 6; ++round) {
    auto lifted = region.lift();
    ASSERT_TRUE(lifted) << describe(lifted.error());
    for (std::size_t i = 0; i < kPages; i += 7)
      EXPECT_TRUE(page_is(lifted->at(page_at(region, i)), contents(i, round - 1))) << i;
    fill(region, round);  // by faults
    if (round % 2 == 0) {
      ASSERT_TRUE(lifted->finish());
    }
    // Otherwise the destructor restores.
  }
  for (std::size_t i = 0; i < kPages; ++i)
    EXPECT_TRUE(page_is(page_at(region, i), contents(i, 6))) << i;
}

// The handler decides: it counts, and restores eight pages at a time.
struct Restorer {
  std::atomic<Lift*> lift{nullptr};
  std::atomic<unsigned> faults{0};
  std::atomic<std::size_t> restored{0};
  std::atomic<int> failures{0};
  static Verdict on_fault(void* self, const Fault& fault) noexcept {
    auto& me = *static_cast<Restorer*>(self);
    if (fault.kind != FaultKind::missing) return Verdict::not_mine;
    Lift* const lift = me.lift.load();
    if (lift == nullptr) {
      const auto zeroes = fault.region->supply(fault.page, nullptr, Supply::zero);
      return zeroes ? Verdict::resolved : Verdict::not_mine;
    }
    me.faults.fetch_add(1);
    const std::size_t first = index_in(*fault.region, fault.page.base) & ~std::size_t{7};
    const auto done = lift->restore(pages_at(*fault.region, first, 8));
    if (!done) {
      me.failures.store(done.error().number);
      return Verdict::not_mine;
    }
    me.restored.fetch_add(done->count());
    return Verdict::resolved;
  }
};

TEST_P(Lifts, HandlerRestores) {
  Restorer restorer;
  Region region = make_liftable(FaultKind::missing);
  ASSERT_TRUE(region.valid());
  region.on_fault(Restorer::on_fault, &restorer).value();
  fill(region, 3);
  region.unprotect(region.range()).value();
  auto lifted = region.lift();
  ASSERT_TRUE(lifted) << describe(lifted.error());
  restorer.lift.store(&*lifted);
  for (std::size_t i = 0; i < kPages / 2; ++i)
    EXPECT_EQ(load(region, page_at(region, i), ways().back()), contents(i, 3)) << i;
  region.quiesce();
  EXPECT_EQ(restorer.faults.load(), kPages / 16);
  EXPECT_EQ(restorer.restored.load(), kPages / 2);
  EXPECT_EQ(restorer.failures.load(), 0);
  for (std::size_t i = 0; i < kPages; ++i)
    EXPECT_EQ(region.page_state(page_at(region, i)),
              i < kPages / 2 ? PageState::read_write : PageState::missing);
  ASSERT_TRUE(lifted->finish());
  restorer.lift.store(nullptr);
  for (std::size_t i = 0; i < kPages; ++i)
    EXPECT_EQ(load(region, page_at(region, i), ways().back()), contents(i, 3)) << i;
  const auto late = lifted->restore(region.range());
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().number, EBADF);
}

TEST_P(Lifts, RestoreIsPartialAndChecked) {
  Region region = make_liftable(FaultKind::write_protected);
  ASSERT_TRUE(region.valid());
  fill(region, 0);
  auto lifted = region.lift();
  ASSERT_TRUE(lifted) << describe(lifted.error());
  EXPECT_TRUE(lifted->restore(pages_at(region, 10, 20)));
  EXPECT_TRUE(lifted->restore(pages_at(region, 0, 64)));
  for (std::size_t i = 0; i < 64; ++i)
    EXPECT_TRUE(page_is(page_at(region, i), contents(i, 0))) << i;
  const auto bad = lifted->restore({region.range().end(), Pages{1}});
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().number, EINVAL);
  EXPECT_FALSE(lifted->restore({region.data(), Pages{0}}));
}

// Rights are not kept: what was protected comes back writable. In a child: a page that nobody can
// resolve faults for ever.
TEST_P(Lifts, ProtectedPagesComeBackWritable) {
  FaultLog log;
  Region region = make_liftable(FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  fill(region, 2);
  const Ending ending = in_child(
      [&] {
        CHILD_CHECK(region.protect(region.range(), Access::read));
        auto lifted = region.lift();
        CHILD_CHECK(lifted);
        for (std::size_t i = 0; i < kPages; ++i) {
          CHILD_CHECK(page_is(lifted->at(page_at(region, i)), contents(i, 2)));
          if (i % 2 == 0) store(region, page_at(region, i), i, ways().back());
        }
        CHILD_CHECK(lifted->finish());
        for (std::size_t i = 0; i < kPages; ++i) {
          CHILD_CHECK(load(region, page_at(region, i) + 8, ways().back()) == contents(i, 2));
          store(region, page_at(region, i) + 16, i, ways().back());
          CHILD_CHECK(load(region, page_at(region, i), ways().back()) ==
                      (i % 2 == 0 ? i : contents(i, 2)));
        }
        CHILD_CHECK(log.total() == 0);
        return 0;
      },
      5);
  EXPECT_EQ(ending.status, 0) << "signal " << ending.signal << ' ' << ending.output;
}

// The region's rights work again after a lift, those of pages that nobody ever wrote too.
TEST_P(Lifts, RightsWorkAfterwards) {
  FaultLog log;
  Region region = make_liftable(FaultKind::write_protected, &log);
  ASSERT_TRUE(region.valid());
  fill(region, 2);
  const Ending ending = in_child(
      [&] {
        { CHILD_CHECK(region.lift()); }
        CHILD_CHECK(region.protect(region.range(), Access::read));
        for (std::size_t i = 0; i < kPages; ++i) {
          CHILD_CHECK(load(region, page_at(region, i), ways().back()) == contents(i, 2));
          store(region, page_at(region, i), i, ways().back());
        }
        CHILD_CHECK(log.count(FaultKind::write_protected) == kPages);
        CHILD_CHECK(log.total() == kPages);
        return 0;
      },
      5);
  EXPECT_EQ(ending.status, 0) << "signal " << ending.signal << ' ' << ending.output;
}

// Writers go on all the time; each page's words obey a sum in every lifted picture.
TEST_P(Lifts, ConcurrentWritersAgainstAChecksum) {
  constexpr std::size_t kShared = 256;
  Region region = make_liftable(FaultKind::write_protected);
  ASSERT_TRUE(region.valid());
  std::atomic<unsigned> wrong{0};
  const auto word = [&](std::size_t page, std::size_t index) {
    return std::atomic_ref<std::uint64_t>(
        *reinterpret_cast<std::uint64_t*>(page_at(region, page) + 8 * index));
  };
  // Thread t owns pages i with i % 2 == t. Word 0 counts up before words 1 and 511 follow.
  std::array<std::array<std::uint64_t, kShared>, 2> written{};
  Crew crew;
  for (unsigned t = 0; t < 2; ++t) {
    crew.add([&, t] {
      Random random(31 + t);
      while (crew.working()) {
        const std::size_t i = random.below(kShared / 2) * 2 + t;
        const std::uint64_t next = written[t][i] + 1;
        if (word(i, 0).load() != next - 1 || word(i, 511).load() != next - 1) wrong.fetch_add(1);
        word(i, 0).store(next);
        word(i, 1).store(next * 3);
        word(i, 511).store(next);
        written[t][i] = next;
      }
    });
  }
  for (unsigned round = 0; round < 15; ++round) {
    for (unsigned i = 0; i < 20; ++i) sys::yield();
    auto lifted = region.lift();
    ASSERT_TRUE(lifted) << describe(lifted.error());
    for (std::size_t i = 0; i < kShared; ++i) {
      // A lift cuts between two stores; a page in the window or moved back never tears a word.
      const auto* const words =
          reinterpret_cast<const std::uint64_t*>(lifted->at(page_at(region, i)));
      static_cast<void>(*const_cast<const volatile std::uint64_t*>(words));
    }
    ASSERT_TRUE(lifted->finish());
  }
  crew.dismiss();
  for (std::size_t i = 0; i < kShared; ++i) {
    const std::uint64_t last = written[i % 2][i];
    EXPECT_EQ(word(i, 0).load(), last) << i;
    EXPECT_EQ(word(i, 1).load(), last * 3) << i;
    EXPECT_EQ(word(i, 511).load(), last) << i;
  }
  EXPECT_EQ(wrong.load(), 0U);
}

// The window is a picture of one moment as long as a handler restores by copying nothing: here the
// writers are blocked in faults, so what the window shows is a cut through all threads.
TEST_P(Lifts, WindowIsOneMoment) {
  struct Gate {
    std::atomic<bool> open{false};
    std::atomic<unsigned> waiting{0};
    std::atomic<Lift*> lift{nullptr};
    static Verdict on_fault(void* self, const Fault& fault) noexcept {
      auto& me = *static_cast<Gate*>(self);
      if (fault.kind != FaultKind::missing) return Verdict::not_mine;
      Lift* const lift = me.lift.load();
      if (lift != nullptr) {
        const auto done = lift->restore(fault.page);
        if (done) return Verdict::resolved;
        return done.error().number == EBADF ? Verdict::retry : Verdict::not_mine;  // just finished
      }
      if (!me.open.load()) {
        me.waiting.fetch_add(1);
        sys::yield();
        return Verdict::retry;
      }
      const auto zeroes = fault.region->supply(fault.page, nullptr, Supply::zero);
      return zeroes ? Verdict::resolved : Verdict::not_mine;
    }
  };
  Gate gate;
  gate.open.store(true);
  Region region = make_liftable(FaultKind::missing);
  ASSERT_TRUE(region.valid());
  region.on_fault(Gate::on_fault, &gate).value();
  region.unprotect(pages_at(region, 0, 2)).value();
  Crew crew;
  // Two counters in two pages, the second never ahead of the first, at most one behind.
  crew.add([&] {
    for (std::uint64_t i = 1; crew.working(); ++i) {
      store(region, page_at(region, 0), i, Way::plain);
      store(region, page_at(region, 1), i, Way::plain);
    }
  });
  for (unsigned round = 0; round < 20; ++round) {
    for (unsigned i = 0; i < 20; ++i) sys::yield();
    gate.open.store(false);
    auto lifted = region.lift();
    gate.open.store(!lifted);
    ASSERT_TRUE(lifted) << describe(lifted.error());
    const auto first = *reinterpret_cast<const std::uint64_t*>(lifted->at(page_at(region, 0)));
    const auto second = *reinterpret_cast<const std::uint64_t*>(lifted->at(page_at(region, 1)));
    EXPECT_TRUE(first == second || first == second + 1) << first << ' ' << second;
    gate.lift.store(&*lifted);
    ASSERT_TRUE(lifted->finish());
    gate.open.store(true);
    gate.lift.store(nullptr);
    region.quiesce();
  }
  gate.open.store(true);
  crew.dismiss();
}

// What comes back from a lift is writable, so it counts as written, and so do holes that are
// filled.
TEST_P(Lifts, DirtyLosesNoWriteOverALift) {
  for (const DirtyForm form : {DirtyForm::traps, DirtyForm::scan}) {
    SCOPED_TRACE(static_cast<int>(form));
    RegionOptions asked = options(kPages, kNoFaults);
    asked.liftable = true;
    asked.dirty = form;
    FaultLog log;
    if (!Region::create(bytes(Pages{kPages}), asked)) continue;  // before Linux 6.7
    Region region = make_with(kPages, asked, &log);
    ASSERT_TRUE(region.valid());
    fill(region, 1);
    region.arm_dirty(region.range()).value();
    {
      auto lifted = region.lift();
      ASSERT_TRUE(lifted) << describe(lifted.error());
      store(region, page_at(region, 3), 7, ways().back());  // there was a page
      store(region, page_at(region, 5), 7, ways().back());  // a hole
      ASSERT_TRUE(lifted->finish());
    }
    store(region, page_at(region, 7), 7, ways().back());
    store(region, page_at(region, 8), 7, ways().back());
    std::vector<PageRange> found;
    region.dirty(region.range(), found).value();
    for (const std::size_t i : {3U, 5U, 7U, 8U}) {
      EXPECT_TRUE(
          std::any_of(found.begin(), found.end(),
                      [&](const PageRange& range) { return range.contains(page_at(region, i)); }))
          << "page " << i;
    }
    store(region, page_at(region, 9), 7, ways().back());
    found.clear();
    EXPECT_EQ(region.dirty(region.range(), found).value(), Pages{1});
  }
}

TEST_P(Lifts, WindowPagesNobodyWroteAreZeroes) {
  Region region = make_liftable(FaultKind::write_protected);
  ASSERT_TRUE(region.valid());
  auto lifted = region.lift();
  ASSERT_TRUE(lifted) << describe(lifted.error());
  for (std::size_t i = 0; i < kPages; i += 11) {
    EXPECT_TRUE(page_is(lifted->at(page_at(region, i)), 0)) << i;
    EXPECT_EQ(load(region, page_at(region, i), ways().back()), 0U);
    store(region, page_at(region, i), 1, ways().back());
  }
}

INSTANTIATE_TEST_SUITE_P(Vm, Lifts,
                         testing::Values(Combination{BackendId::uffd_inline, Backing::anonymous},
                                         Combination{BackendId::uffd_thread, Backing::anonymous}),
                         test_name);

}  // namespace
}  // namespace pagetrap::conformance
