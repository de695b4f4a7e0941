// Lift::put_back and Lift::pages: page tables that come back as they went.
#include <thread>

#include "conformance/fixture.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::conformance {
namespace {

constexpr std::size_t kPages = 1024;
constexpr std::size_t kPiece = 64;

class PutBack : public Conformance {
 protected:
  std::string obstacle() override {
    if (!has_feature("uffd.event_remap")) return "the kernel lacks UFFD_FEATURE_EVENT_REMAP";
    if (!has_feature("mremap_dontunmap")) return "the kernel lacks MREMAP_DONTUNMAP";
    return {};
  }
};

// Every third page stays a hole.
bool is_hole(std::size_t page) { return page % 3 == 2; }
std::uint64_t contents(std::size_t page) { return is_hole(page) ? 0 : stamp(page, 1); }

// Puts back the piece that was touched: in the faulting thread at once, from a handler thread by
// way of another one. Pages that are in no piece's window are zeroes.
struct Pieces {
  Region* region = nullptr;
  std::atomic<Lift*> lift{nullptr};
  std::array<std::atomic<int>, kPages / kPiece> state{};  // 0 lifted, 1 wanted, 2 moving, 3 back
  std::atomic<int> failures{0};

  Verdict put_back(std::size_t piece) noexcept {
    int before = 0;
    if (!state[piece].compare_exchange_strong(before, 2)) {
      before = 1;
      if (!state[piece].compare_exchange_strong(before, 2)) return Verdict::retry;
    }
    if (!lift.load()->put_back(pages_at(*region, piece * kPiece, kPiece))) failures.fetch_add(1);
    state[piece].store(3);
    // Whoever found it moving, and a hole after that, sleeps.
    if (!region->wake(pages_at(*region, piece * kPiece, kPiece))) failures.fetch_add(1);
    return Verdict::resolved;
  }
  static Verdict on_fault(void* self, const Fault& fault) noexcept {
    auto& me = *static_cast<Pieces*>(self);
    if (fault.kind != FaultKind::missing) return Verdict::not_mine;
    const std::size_t piece = index_in(*fault.region, fault.page.base) / kPiece;
    if (me.lift.load() == nullptr || me.state[piece].load() == 3) {
      const auto zeroes = fault.region->supply(fault.page, nullptr, Supply::zero);
      return zeroes ? Verdict::resolved : Verdict::not_mine;
    }
    if (fault.context != nullptr) return me.put_back(piece);
    const auto refused = me.lift.load()->put_back(pages_at(*fault.region, piece * kPiece, kPiece));
    if (refused || refused.error().number != EDEADLK) me.failures.fetch_add(1);
    int before = 0;
    me.state[piece].compare_exchange_strong(before, 1);
    return Verdict::resolved;  // the thread sleeps until the piece is back
  }
};

TEST_P(PutBack, PieceByPieceWhileThreadsFault) {
  Pieces pieces;
  RegionOptions asked = options(kPages, FaultKind::missing);
  asked.liftable = true;
  Region region = make_with(kPages, asked);
  ASSERT_TRUE(region.valid());
  pieces.region = &region;
  region.on_fault(Pieces::on_fault, &pieces).value();
  for (std::size_t i = 0; i < kPages; ++i) {
    if (is_hole(i)) continue;
    region.touch(page_at(region, i), true);
    fill_page(page_at(region, i), stamp(i, 1));
  }
  for (unsigned round = 0; round < 5; ++round) {
    SCOPED_TRACE(round);
    for (auto& state : pieces.state) state.store(0);
    auto lifted = region.lift();
    ASSERT_TRUE(lifted) << describe(lifted.error());
    std::array<PageRange, kPages> runs;
    const auto found = lifted->pages(region.range(), LiftedPages::there, runs);
    ASSERT_TRUE(found) << describe(found.error());
    std::size_t there = 0;
    for (const PageRange& run : std::span(runs).first(*found)) there += run.length.count();
    // Holes that were read in an earlier round are pages of zeroes now.
    EXPECT_EQ(there, round == 0 ? kPages - kPages / 3 : kPages);
    for (const PageRange& run : std::span(runs).first(*found))
      for (std::size_t i = 0; i < run.length.count(); ++i) {
        const std::byte* const page = run.base + i * page_size();
        EXPECT_TRUE(page_is(lifted->at(page), contents(index_in(region, page))));
      }
    pieces.lift.store(&*lifted);
    std::atomic<unsigned> wrong{0};
    std::atomic<unsigned> readers{3};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        for (std::size_t n = 0; n < kPages; ++n) {
          const std::size_t i = (n * 37 + t * 300) % kPages;
          if (load(region, page_at(region, i), ways().back()) != contents(i)) wrong.fetch_add(1);
        }
        readers.fetch_sub(1);
      });
    }
    while (readers.load() != 0) {
      for (std::size_t piece = 0; piece < pieces.state.size(); ++piece)
        if (pieces.state[piece].load() == 1) pieces.put_back(piece);
      sys::yield();
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong.load(), 0U);
    EXPECT_EQ(pieces.failures.load(), 0);
    ASSERT_TRUE(lifted->finish());
    region.quiesce();
    pieces.lift.store(nullptr);
    const auto late = lifted->put_back(region.range());
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().number, EBADF);
  }
}

TEST_P(PutBack, MarksOfTrackingComeBack) {
  if (!has_feature("uffd.wp_async") || !has_feature("pagemap_scan"))
    GTEST_SKIP() << "the kernel lacks WP_ASYNC or PAGEMAP_SCAN (6.7)";
  RegionOptions asked = options(kPages, FaultKind::missing);
  asked.liftable = true;
  asked.dirty = DirtyForm::scan;
  Region region = make_with(kPages, asked);
  ASSERT_TRUE(region.valid());
  region.supply(region.range(), nullptr, Supply::zero).value();
  for (std::size_t round = 0; round < 4; ++round) {
    SCOPED_TRACE(round);
    auto lifted = region.lift();
    ASSERT_TRUE(lifted) << describe(lifted.error());
    std::array<PageRange, kPages / 2> runs;
    const auto found = lifted->pages(region.range(), LiftedPages::written, runs);
    ASSERT_TRUE(found) << describe(found.error());
    if (round == 0) {
      ASSERT_EQ(*found, 1U);
      EXPECT_EQ(runs[0], region.range());
    } else {
      ASSERT_EQ(*found, kPages / 8);
      for (std::size_t n = 0; n < *found; ++n)
        EXPECT_EQ(runs[n], pages_at(region, 8 * n + round, 1));
    }
    // All of them, armed again: as if this had asked for those that were written.
    const auto all = lifted->pages(region.range(), LiftedPages::armed, runs);
    ASSERT_TRUE(all) << describe(all.error());
    EXPECT_EQ(*all, 1U);
    EXPECT_EQ(runs[0], region.range());
    std::array<PageRange, 1> too_small;
    if (round == 0) {
      ASSERT_TRUE(lifted->put_back(region.range()));
    } else {
      for (std::size_t i = 0; i < kPages; i += 8)
        ASSERT_TRUE(lifted->put_back(pages_at(region, i, 8)));
      const auto none = lifted->pages(region.range(), LiftedPages::there, too_small);
      ASSERT_TRUE(none);
      EXPECT_EQ(*none, 0U);
    }
    ASSERT_TRUE(lifted->finish());
    for (std::size_t i = 0; i < kPages; i += 8)
      store(region, page_at(region, i + round + 1), i, ways().back());
  }
}

// Protected before anybody sees it: reads go on, and the first write to each page faults.
TEST_P(PutBack, ComesBackProtected) {
  RegionOptions asked = options(kPages, FaultKind::missing | FaultKind::write_protected);
  asked.liftable = true;
  Region region = make_with(kPages, asked);
  ASSERT_TRUE(region.valid());
  struct Seen {
    std::atomic<unsigned> writes{0};
    std::atomic<unsigned> holes{0};
    static Verdict on_fault(void* self, const Fault& fault) noexcept {
      auto& seen = *static_cast<Seen*>(self);
      if (fault.kind == FaultKind::write_protected) {
        seen.writes.fetch_add(1);
        return fault.region->unprotect(fault.page) ? Verdict::resolved : Verdict::not_mine;
      }
      seen.holes.fetch_add(1);
      return fault.region->supply(fault.page, nullptr, Supply::zero) ? Verdict::resolved
                                                                     : Verdict::not_mine;
    }
  } seen;
  region.on_fault(Seen::on_fault, &seen).value();
  for (std::size_t i = 0; i < kPages; ++i) {
    if (is_hole(i)) continue;
    region.touch(page_at(region, i), true);
    fill_page(page_at(region, i), stamp(i, 1));
  }
  // One of them is protected already, and stays so.
  region.protect(pages_at(region, 0, 1), Access::read).value();
  for (unsigned round = 0; round < 3; ++round) {
    SCOPED_TRACE(round);
    auto lifted = region.lift();
    ASSERT_TRUE(lifted) << describe(lifted.error());
    for (std::size_t piece = 0; piece < kPages / kPiece; ++piece) {
      const auto back = lifted->put_back(pages_at(region, piece * kPiece, kPiece), Access::read);
      ASSERT_TRUE(back) << describe(back.error());
    }
    ASSERT_TRUE(lifted->finish());
    seen.writes = 0;
    seen.holes = 0;
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < kPages; ++i)
      if (!is_hole(i)) wrong += page_is(page_at(region, i), stamp(i, round + 1)) ? 0 : 1;
    EXPECT_EQ(wrong, 0U);
    EXPECT_EQ(seen.writes.load(), 0U);  // reading is free
    EXPECT_EQ(seen.holes.load(), 0U);
    std::size_t written = 0;
    for (std::size_t i = 0; i < kPages; ++i) {
      if (is_hole(i)) continue;
      fill_page(page_at(region, i), stamp(i, round + 2));
      ++written;
    }
    // Every page that is there once; handler threads may report one twice.
    EXPECT_GE(seen.writes.load(), written);
    EXPECT_LE(seen.writes.load(), written + written / 10);
    EXPECT_TRUE(page_is(page_at(region, 2), 0));  // a hole stays one until it is touched
    EXPECT_EQ(seen.holes.load(), round == 0 ? 1U : 0U);
  }
}

TEST_P(PutBack, RefusesWhatItCannotDo) {
  RegionOptions asked = options(kPages, FaultKind::write_protected);
  asked.liftable = true;
  asked.huge_pages = HugePages::never;  // every other page is to stay a hole
  Region region = make_with(kPages, asked);
  ASSERT_TRUE(region.valid());
  for (std::size_t i = 0; i < kPages; i += 2) fill_page(page_at(region, i), stamp(i, 1));
  auto lifted = region.lift();
  ASSERT_TRUE(lifted) << describe(lifted.error());
  const auto not_asked = lifted->put_back(region.range());
  ASSERT_FALSE(not_asked);
  EXPECT_EQ(not_asked.error().number, ENOTSUP);
  EXPECT_FALSE(lifted->put_back({region.range().end(), Pages{1}}));
  EXPECT_FALSE(lifted->put_back({region.data(), Pages{0}}));
  std::array<PageRange, 8> runs;
  const auto full = lifted->pages(region.range(), LiftedPages::there, runs);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().number, ENOBUFS);
  const auto untracked = lifted->pages(region.range(), LiftedPages::written, runs);
  ASSERT_FALSE(untracked);
  EXPECT_EQ(untracked.error().number, ENOTSUP);
}

INSTANTIATE_TEST_SUITE_P(Vm, PutBack,
                         testing::Values(Combination{BackendId::uffd_inline, Backing::anonymous},
                                         Combination{BackendId::uffd_thread, Backing::anonymous}),
                         test_name);

}  // namespace
}  // namespace pagetrap::conformance
