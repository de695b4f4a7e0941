// The figures of `pagetrap collections`: on examples small enough to do by hand, and as laws.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <random>
#include <vector>

#include "../collections/choose.hpp"
#include "../collections/distribution.hpp"
#include "../collections/heap_trace.hpp"
#include "../collections/replay.hpp"
#include "../collections/summary.hpp"
#include "../collections/utilisation.hpp"

namespace pagetrap::tool::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using trace::Event;
using trace::Kind;
using What = PageEvent::What;

TEST(Utilisation, OfOnePause) {
  const Pauses pauses({{40, 50}}, {0, 100});
  EXPECT_EQ(pauses.longest(), 10U);
  EXPECT_EQ(pauses.total(), 10U);
  EXPECT_EQ(pauses.minimum_utilisation(5), 0.0);
  EXPECT_EQ(pauses.minimum_utilisation(10), 0.0);
  EXPECT_EQ(pauses.minimum_utilisation(20), 0.5);
  EXPECT_EQ(pauses.minimum_utilisation(40), 0.75);
  EXPECT_EQ(pauses.minimum_utilisation(100), 0.9);
  EXPECT_EQ(pauses.minimum_utilisation(101), std::nullopt);
}

TEST(Utilisation, OfPausesThatAWindowHoldsTogether) {
  // 2 in each 10: but 4 in the 12 from 10 to 22.
  const Pauses pauses({{10, 12}, {20, 22}, {30, 32}}, {0, 40});
  EXPECT_EQ(pauses.minimum_utilisation(12), 1 - 4.0 / 12);
  EXPECT_EQ(pauses.minimum_utilisation(22), 1 - 6.0 / 22);
  EXPECT_EQ(pauses.minimum_utilisation(4), 0.5);
}

TEST(Utilisation, WindowsDoNotReachOutOfTheWatchedTime) {
  // The pause is at its end: a window of 15 that begins with it would reach beyond.
  EXPECT_EQ(Pauses({{90, 100}}, {0, 100}).minimum_utilisation(20), 0.5);
  EXPECT_EQ(Pauses({{0, 10}}, {0, 100}).minimum_utilisation(20), 0.5);
  EXPECT_EQ(Pauses({{0, 100}}, {0, 100}).minimum_utilisation(50), 0.0);
}

TEST(Utilisation, PausesAreMergedAndCut) {
  const Pauses pauses({{30, 40}, {5, 20}, {15, 25}, {25, 30}, {90, 130}, {50, 50}, {200, 300}},
                      {10, 100});
  EXPECT_THAT(pauses.spans(), ElementsAre(Span{10, 40}, Span{90, 100}));
  EXPECT_EQ(pauses.total(), 40U);
  EXPECT_EQ(pauses.longest(), 30U);
}

TEST(Utilisation, WithoutPausesIsWhole) {
  const Pauses none({}, {0, 1000});
  EXPECT_EQ(none.minimum_utilisation(1), 1.0);
  EXPECT_EQ(none.minimum_utilisation(1000), 1.0);
  EXPECT_EQ(Pauses({}, {0, 0}).minimum_utilisation(1), std::nullopt);
}

/// The same by trying every window.
double utilisation_by_trying(const std::vector<Span>& pauses, Span watched, std::uint64_t window) {
  std::vector<bool> paused(watched.end, false);
  for (const Span& span : pauses)
    for (std::uint64_t t = span.begin; t < std::min(span.end, watched.end); ++t) paused[t] = true;
  std::uint64_t most = 0;
  for (std::uint64_t begin = watched.begin; begin + window <= watched.end; ++begin) {
    std::uint64_t sum = 0;
    for (std::uint64_t t = begin; t < begin + window; ++t) sum += paused[t] ? 1 : 0;
    most = std::max(most, sum);
  }
  return 1 - static_cast<double>(most) / static_cast<double>(window);
}

TEST(Utilisation, IsThatOfEveryWindowAndKeepsItsLaws) {
  constexpr std::uint32_t kSeed = 1991;
  std::mt19937 random(kSeed);
  const auto up_to = [&](std::uint64_t most) {
    return std::uniform_int_distribution<std::uint64_t>(0, most)(random);
  };
  for (int round = 0; round < 200; ++round) {
    const Span watched{up_to(20), 60 + up_to(60)};
    std::vector<Span> spans;
    for (std::uint64_t i = up_to(8); i > 0; --i) {
      const std::uint64_t begin = up_to(120);
      spans.push_back({begin, begin + up_to(12)});
    }
    const Pauses pauses(spans, watched);
    for (std::uint64_t window = 1; window <= watched.length(); ++window) {
      const double share = *pauses.minimum_utilisation(window);
      ASSERT_EQ(share, utilisation_by_trying(spans, watched, window))
          << "seed " << kSeed << " round " << round << " window " << window;
      ASSERT_GE(share, 0);
      ASSERT_LE(share, 1);
      ASSERT_EQ(share > 0, window > pauses.longest());
      // Not monotone, but a window of several lengths is no worse than the worst of its parts.
      for (std::uint64_t times = 2; times * window <= watched.length(); ++times)
        ASSERT_GE(*pauses.minimum_utilisation(times * window), share - 1e-12);
    }
    ASSERT_EQ(pauses.minimum_utilisation(watched.length() + 1), std::nullopt);
  }
}

TEST(DistributionOfDurations, Percentiles) {
  const Distribution ten({9, 3, 1, 2, 10, 4, 5, 8, 7, 6});
  EXPECT_EQ(ten.count(), 10U);
  EXPECT_EQ(ten.total(), 55U);
  EXPECT_EQ(ten.longest(), 10U);
  EXPECT_EQ(ten.percentile(50), 5U);
  EXPECT_EQ(ten.percentile(51), 6U);
  EXPECT_EQ(ten.percentile(90), 9U);
  EXPECT_EQ(ten.percentile(99), 10U);
  EXPECT_EQ(ten.percentile(100), 10U);
  EXPECT_EQ(ten.percentile(0.001), 1U);
  EXPECT_EQ(Distribution({7}).percentile(50), 7U);
  EXPECT_EQ(ten.between(3, 5), 2U);
  EXPECT_EQ(Distribution({}).between(0, ~0ULL), 0U);
}

TEST(DistributionOfDurations, BinsHoldAll) {
  const Distribution a({150, 3000});
  const Distribution b({40});
  const Distribution none({});
  const auto bounds = [](std::vector<const Distribution*> several) { return bin_bounds(several); };
  EXPECT_THAT(bounds({&a}), ElementsAre(100, 200, 500, 1000, 2000, 5000));
  EXPECT_THAT(bounds({&a, &none, &b}), ElementsAre(20, 50, 100, 200, 500, 1000, 2000, 5000));
  EXPECT_THAT(bounds({&none}), IsEmpty());
  const Distribution edges({100, 200});
  EXPECT_THAT(bounds({&edges}), ElementsAre(100, 200, 500));
  const Distribution zero({0});
  EXPECT_THAT(bounds({&zero}), ElementsAre(0, 1));
}

// --- a trace, event by event

constexpr std::uint64_t kBase = 0x7f0000000000;

class Tape {
 public:
  Tape& at(std::uint64_t nanoseconds) {
    now_ = nanoseconds;
    return *this;
  }
  Tape& by(std::uint32_t thread) {
    thread_ = thread;
    return *this;
  }
  Tape& put(Kind kind, std::uint64_t address, std::uint64_t detail) {
    events.push_back({events.size() + 1, now_, address, detail, thread_, kind, 0});
    return *this;
  }
  Tape& flip(std::uint64_t number, bool full, bool lifted, std::uint64_t base = kBase) {
    return put(Kind::flip, base,
               64 | number << 32 | std::uint64_t{full} << 62 | std::uint64_t{lifted} << 63);
  }
  Tape& pages(Kind kind, std::uint64_t first, std::uint64_t count, std::uint64_t how = 0) {
    return put(kind, kBase + first * 4096, count << 8 | how);
  }
  Tape& page(Kind kind, std::uint64_t page, std::uint64_t detail = 0) {
    return put(kind, kBase + page * 4096, detail);
  }
  std::vector<Event> events;

 private:
  std::uint64_t now_ = 0;
  std::uint32_t thread_ = 1;
};

/// Eight pages closed at once; 2 is pinned, 5 is trapped, 0 and 1 are clean, 8 is made.
Tape one_cycle() {
  Tape tape;
  tape.at(1000).flip(7, true, true).pages(Kind::close, 0, 8).page(Kind::pin, 2);
  tape.at(1100).page(Kind::scan, 2).pages(Kind::open, 2, 1, 2).page(Kind::pin, 70, 1);
  tape.at(1200).put(Kind::pause, kBase, 50 | std::uint64_t{250} << 32);
  tape.by(9).at(1300).pages(Kind::open, 0, 2, 3);
  tape.by(2).at(1400).page(Kind::scan, 5).pages(Kind::close, 8, 1, 1);
  tape.at(1500).pages(Kind::open, 5, 1, 1);
  tape.put(Kind::fault, kBase + 5 * 4096 + 17, 4 | std::uint64_t{130} << 16);
  tape.by(9).at(1600).page(Kind::scan, 8);
  tape.at(1700).pages(Kind::open, 8, 1, 0);
  tape.by(2).at(1750).put(Kind::stall, kBase, 40);
  tape.by(9).at(1800).put(Kind::cycle, kBase, 3 | std::uint64_t{4} << 20 | std::uint64_t{5} << 42);
  return tape;
}

TEST(HeapTraces, ACycle) {
  const CollectionsTrace trace = collections_in(one_cycle().events);
  EXPECT_EQ(trace.watched, (Span{1000, 1800}));
  ASSERT_EQ(trace.heaps.size(), 1U);
  const HeapTrace& heap = trace.heaps[0];
  EXPECT_EQ(heap.base, kBase);
  EXPECT_EQ(heap.pages, 64U);
  ASSERT_EQ(heap.cycles.size(), 1U);
  const CollectionCycle& cycle = heap.cycles[0];
  EXPECT_EQ(cycle.number, 7U);
  EXPECT_TRUE(cycle.full);
  EXPECT_TRUE(cycle.lifted);
  EXPECT_EQ(cycle.flipped_at, 1000U);
  EXPECT_EQ(cycle.stop_ns, 50U);
  EXPECT_EQ(cycle.pause_ns, 250U);
  EXPECT_EQ(cycle.resumed_at, 1200U);
  EXPECT_EQ(cycle.ended_at, 1800U);
  EXPECT_EQ(cycle.total_ns(), 850U);
  EXPECT_EQ(cycle.traps, 3U);
  EXPECT_EQ(cycle.copied_pages, 4U);
  EXPECT_EQ(cycle.scanned_pages, 5U);
  EXPECT_EQ(cycle.count(What::clean), 2U);
  EXPECT_EQ(cycle.count(What::trapped), 1U);
  EXPECT_EQ(cycle.count(What::visited), 1U);
  EXPECT_THAT(heap.flips, ElementsAre(Span{900, 1200}));
  ASSERT_EQ(heap.traps.size(), 1U);
  EXPECT_EQ(heap.traps[0].when, (Span{1370, 1500}));
  ASSERT_EQ(heap.waits.size(), 1U);
  EXPECT_EQ(heap.waits[0].when, (Span{1710, 1750}));
  EXPECT_THAT(threads_of(heap), ElementsAre(2));
  EXPECT_THAT(pauses_of(heap, trace.watched, std::nullopt).spans(), ElementsAre(Span{1000, 1200}));
  EXPECT_THAT(pauses_of(heap, trace.watched, 2).spans(),
              ElementsAre(Span{1000, 1200}, Span{1370, 1500}, Span{1710, 1750}));
}

TEST(HeapTraces, ATraceThatBeginsInTheMiddle) {
  Tape tape;
  // Of cycles whose flips are gone, of another region, and of a kind that nobody knows yet.
  tape.at(10).page(Kind::scan, 3).put(Kind::cycle, kBase, 1).put(Kind::pause, kBase, 5);
  tape.put(Kind::fault, 0x1000, 9 << 16).put(static_cast<Kind>(4711), kBase, 1);
  tape.at(20).flip(2, false, false);
  tape.at(30).put(Kind::pause, kBase, 1);
  tape.at(40).flip(3, false, false);
  const CollectionsTrace trace = collections_in(tape.events);
  ASSERT_EQ(trace.heaps.size(), 1U);
  const HeapTrace& heap = trace.heaps[0];
  EXPECT_THAT(heap.flips, ElementsAre(Span{5, 10}, Span{29, 30}));
  EXPECT_THAT(heap.traps, IsEmpty());
  ASSERT_EQ(heap.cycles.size(), 2U);
  EXPECT_EQ(heap.cycles[0].resumed_at, 30U);
  EXPECT_EQ(heap.cycles[0].ended_at, 0U);
  EXPECT_EQ(heap.cycles[1].resumed_at, 0U);
  EXPECT_EQ(heap.cycles[1].last_time(), 40U);
  EXPECT_FALSE(heap.cycles[0].has_pages());
  EXPECT_THAT(collections_in({}).heaps, IsEmpty());
}

TEST(HeapTraces, TwoHeaps) {
  constexpr std::uint64_t kOther = kBase + (std::uint64_t{1} << 30);
  Tape tape;
  tape.at(10).flip(2, false, true).flip(9, false, true, kOther);
  tape.put(Kind::close, kOther + 4096, 3 << 8).pages(Kind::close, 5, 1);
  tape.at(20).put(Kind::fault, kOther, 5 << 16).put(Kind::pause, kOther, 0);
  const CollectionsTrace trace = collections_in(tape.events);
  ASSERT_EQ(trace.heaps.size(), 2U);
  EXPECT_EQ(trace.heaps[0].cycles[0].events[0].first, 5U);
  EXPECT_EQ(trace.heaps[1].cycles[0].events[0].first, 1U);
  EXPECT_EQ(trace.heaps[1].cycles[0].events[0].count, 3U);
  EXPECT_THAT(trace.heaps[0].traps, IsEmpty());
  EXPECT_EQ(trace.heaps[1].traps.size(), 1U);
  EXPECT_EQ(trace.heaps[1].flips.size(), 1U);
  EXPECT_EQ(cycle_numbered(trace, 9).heap, &trace.heaps[1]);
  EXPECT_EQ(cycle_numbered(trace, 4).cycle, nullptr);
}

TEST(HeapTraces, RunsThatADamagedTraceMakesTooLongAreCut) {
  Tape tape;
  tape.flip(2, false, true).put(Kind::close, kBase + 60 * 4096, ~std::uint64_t{0});
  const CollectionsTrace trace = collections_in(tape.events);
  EXPECT_EQ(trace.heaps[0].cycles[0].events[0].count, 4U);
}

TEST(ReplayOfACycle, PageByPage) {
  const CollectionsTrace trace = collections_in(one_cycle().events);
  const CollectionCycle& cycle = trace.heaps[0].cycles[0];
  Replay replay(cycle);
  EXPECT_THAT(replay.runs(), ElementsAre(PageRun{0, 9}));  // 70 is of the nursery
  const auto screen = [&](std::uint64_t time) {
    replay.advance(time);
    return draw(replay.states(), 9);
  };
  EXPECT_EQ(screen(999), "         ");
  EXPECT_EQ(screen(1000), "##P##### ");
  EXPECT_EQ(screen(1250), "##P##### ");
  EXPECT_EQ(screen(1300), "..P##### ");
  EXPECT_EQ(screen(1400), "..P##o###");
  EXPECT_EQ(screen(1500), "..P##!###");
  EXPECT_EQ(screen(1600), "..P##!##o");
  EXPECT_EQ(screen(1800), "..P##!##.");
  const auto counts = replay.counts();
  EXPECT_THAT(counts, ElementsAre(0, 4, 0, 3, 1, 1));
}

TEST(ReplayOfACycle, ALetterForSeveralPages) {
  using enum PageState;
  const std::vector<PageState> states{unscanned, unscanned, unscanned, open,       //
                                      open,      trapped,   open,      untouched,  //
                                      untouched, untouched, pinned,    unscanned,  //
                                      opening,   open,      untouched, untouched,  //
                                      untouched};
  EXPECT_EQ(draw(states, 17), "###..!.   P#o.   ");
  EXPECT_EQ(draw(states, 9), "##.. Po  ");
  EXPECT_EQ(draw(states, 5), "#.Po ");
  EXPECT_EQ(draw(states, 1), "P");
  EXPECT_EQ(draw({}, 10), "");
  EXPECT_EQ(pages_per_cell(17, 5), 4U);
  EXPECT_EQ(pages_per_cell(0, 5), 1U);
}

TEST(ReplayOfACycle, RunsFarApartStandSideBySide) {
  Tape tape;
  tape.flip(1, false, false).pages(Kind::close, 3, 1).pages(Kind::close, 40, 2);
  tape.pages(Kind::close, 4, 2);
  const CollectionsTrace trace = collections_in(tape.events);
  Replay replay(trace.heaps[0].cycles[0]);
  EXPECT_THAT(replay.runs(), ElementsAre(PageRun{3, 3}, PageRun{40, 2}));
  replay.advance(~std::uint64_t{0});
  EXPECT_EQ(draw(replay.states(), 100), "#####");
}

TEST(ReplayOfACycle, RefusesMorePagesThanThereCanBe) {
  Tape tape;
  tape.put(Kind::flip, kBase, 0xffffffff | std::uint64_t{1} << 32);
  tape.pages(Kind::close, 0, std::uint64_t{1} << 29);
  const CollectionsTrace trace = collections_in(tape.events);
  EXPECT_THROW(Replay{trace.heaps[0].cycles[0]}, SystemError);
}

TEST(ReplayOfACycle, InstantsAreApartAndInOrder) {
  const CollectionsTrace trace = collections_in(one_cycle().events);
  const CollectionCycle& cycle = trace.heaps[0].cycles[0];
  EXPECT_THAT(instants(cycle, 2), ElementsAre(1200, 1800));
  EXPECT_THAT(instants(cycle, 3), ElementsAre(1200, 1300, 1800));
  EXPECT_THAT(instants(cycle, 5), ElementsAre(1200, 1300, 1500, 1800));
  for (std::size_t count = 2; count < 20; ++count) {
    const auto chosen = instants(cycle, count);
    EXPECT_LE(chosen.size(), count);
    EXPECT_EQ(chosen.front(), 1200U);
    EXPECT_EQ(chosen.back(), 1800U);
    for (std::size_t i = 1; i < chosen.size(); ++i) EXPECT_LT(chosen[i - 1], chosen[i]);
  }
  EXPECT_THAT(instants(CollectionCycle{}, 4), ElementsAre(0));
}

TEST(SummaryOfAHeap, TheWorstThreadIsNoBetterThanFlipsAlone) {
  Tape tape = one_cycle();
  tape.at(1'000'000'000).by(2).put(Kind::stall, kBase, 300'000'000);
  tape.by(3).put(Kind::stall, kBase, 500'000'000);
  const CollectionsTrace trace = collections_in(tape.events);
  const Summary summary(trace.heaps[0], trace.watched);
  ASSERT_EQ(summary.utilisation.size(), 13U);
  for (const UtilisationRow& row : summary.utilisation) {
    if (row.window_ns > trace.watched.length()) {
      EXPECT_FALSE(row.worst.has_value());
      continue;
    }
    EXPECT_LE(*row.worst, *row.flips);
    EXPECT_EQ(row.thread, row.window_ns <= 300'000'000 ? 2U : 3U) << row.window_ns;
  }
  EXPECT_EQ(summary.utilisation[0].window_ns, 100'000U);
  EXPECT_EQ(summary.utilisation[12].window_ns, 1'000'000'000U);
  EXPECT_EQ(summary.waits.longest(), 500'000'000U);
  EXPECT_EQ(summary.traps.count(), 1U);
}

}  // namespace
}  // namespace pagetrap::tool::test
