// What a heap records in the event ring is what it reports of its cycles. A process has one ring
// for ever: each test works in a child of its own.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <set>
#include <vector>

#include <pagetrap/gc/gc.hpp>
#include <pagetrap/trace/trace.hpp>

#include "gc/supplies.hpp"

namespace pagetrap {
namespace {

using trace::Event;
using trace::Kind;

struct Node : gc::object<Node> {
  gc::ref<Node> next;
  std::uint64_t value = 0;
  static constexpr auto members = gc::members(&Node::next);
};

template <class Body>
void in_child(Body body) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::alarm(60);
    body();
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

std::uint64_t sum_of(const Node* list) {
  std::uint64_t sum = 0;
  for (; list != nullptr; list = list->next) sum += list->value;
  return sum;
}

/// Cycles of both kinds over a list that is walked and changed between them; the last one comes
/// right after a walk's end, so that it has no traps.
std::vector<gc::Cycle> run_cycles(gc::PageSupply supply) {
  std::vector<gc::Cycle> cycles;
  gc::Options options;
  options.supply = supply;
  options.nursery_bytes = 1_MiB;
  options.limit_bytes = 128_MiB;
  options.on_cycle_self = &cycles;
  options.on_cycle = [](void* self, const gc::Cycle& cycle) {
    static_cast<std::vector<gc::Cycle>*>(self)->push_back(cycle);
  };
  gc::Heap heap(options);
  const gc::Mutator here(heap);
  gc::root<Node> list(heap);
  constexpr std::uint64_t kLength = 30'000;
  for (std::uint64_t i = 0; i < kLength; ++i) list = heap.make<Node>(list.get(), i);
  for (const bool full : {false, true, false, true, false}) {
    heap.collect(full);
    EXPECT_EQ(sum_of(list.get()), kLength * (kLength - 1) / 2);
    for (Node* at = list.get(); at != nullptr; at = at->next)
      if (at->value % 1000 == 0) at->next = at->next.get();
  }
  heap.collect(false);
  return cycles;
}

std::vector<Event> all_events() {
  std::vector<Event> events(std::size_t{1} << 18);
  events.resize(trace::snapshot(events));
  return events;
}

class TracedHeap : public testing::TestWithParam<gc::PageSupply> {};

TEST_P(TracedHeap, EventsAreWhatCyclesReport) {
  in_child([] {
    ASSERT_TRUE(trace::configure("flip,pause,close,scan,open,pin,stall,cycle", 1 << 18));
    const std::vector<gc::Cycle> cycles = run_cycles(GetParam());
    struct Told {
      std::uint64_t pins = 0;
      std::uint64_t clean = 0;
      std::uint64_t scans = 0;
    };
    std::map<std::uint64_t, Told> told;
    std::uint64_t now = 0;
    std::size_t paused = 0;
    std::size_t ended = 0;
    std::uint64_t traps = 0;
    std::uint64_t trapped = 0;
    std::uint64_t base = 0;
    for (const Event& event : all_events()) {
      switch (event.kind) {
        case Kind::flip:
          ASSERT_LT(told.size(), cycles.size());
          base = base == 0 ? event.address : base;
          EXPECT_EQ(event.address, base);
          now = event.detail >> 32 & 0x3fffffff;
          EXPECT_EQ(now, cycles[told.size()].number);
          EXPECT_EQ((event.detail >> 62 & 1) != 0, cycles[told.size()].full);
          told[now] = {};
          break;
        case Kind::pause: {
          const gc::Cycle& cycle = cycles.at(paused++);
          EXPECT_NEAR(static_cast<double>(event.detail & 0xffffffff), cycle.stop_us * 1000, 1);
          EXPECT_NEAR(static_cast<double>(event.detail >> 32), cycle.pause_us * 1000, 1);
          break;
        }
        case Kind::cycle: {
          const gc::Cycle& cycle = cycles.at(ended++);
          EXPECT_EQ(event.detail & 0xfffff, cycle.traps);
          EXPECT_EQ(event.detail >> 20 & 0x3fffff, (cycle.copied_bytes + 4095) / 4096);
          EXPECT_EQ(event.detail >> 42, cycle.scanned_pages);
          traps += cycle.traps;
          break;
        }
        case Kind::pin:
          ++told[now].pins;
          break;
        case Kind::scan:
          ++told[now].scans;
          break;
        case Kind::open:
          if ((event.detail & 0xff) == 1) ++trapped;
          if ((event.detail & 0xff) == 3) told[now].clean += event.detail >> 8;
          break;
        default:
          break;
      }
    }
    EXPECT_EQ(told.size(), cycles.size());
    EXPECT_EQ(paused, cycles.size());
    EXPECT_EQ(ended, cycles.size());
    EXPECT_EQ(trapped, traps);
    for (const gc::Cycle& cycle : cycles) {
      EXPECT_EQ(told[cycle.number].pins, cycle.pins);
      EXPECT_EQ(told[cycle.number].clean, cycle.opened_pages);
      EXPECT_LE(told[cycle.number].scans, cycle.scanned_pages + cycle.traps);
    }
  });
}

TEST_P(TracedHeap, PagesThatAreMadeAreScannedAndOpened) {
  if (GetParam() == gc::PageSupply::none) GTEST_SKIP() << "nothing is closed";
  in_child([] {
    ASSERT_TRUE(trace::configure("flip,close,scan,open", 1 << 18));
    static_cast<void>(run_cycles(GetParam()));
    std::set<std::uint64_t> made;
    std::set<std::uint64_t> scanned;
    std::size_t all = 0;
    for (const Event& event : all_events()) {
      const std::uint64_t count = event.detail >> 8;
      if (event.kind == Kind::flip) {
        EXPECT_TRUE(made.empty()) << made.size() << " of the last cycle stayed closed";
        scanned.clear();
      }
      if (event.kind == Kind::close && (event.detail & 0xff) == 1) {
        made.insert(event.address);
        ++all;
      }
      if (event.kind == Kind::scan) scanned.insert(event.address);
      if (event.kind != Kind::open) continue;
      for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t page = event.address + i * 4096;
        EXPECT_TRUE(made.erase(page) == 0 || scanned.count(page) != 0);
      }
    }
    EXPECT_GT(all, 100U);
  });
}

TEST_P(TracedHeap, RecordsNothingThatIsOff) {
  in_child([] {
    ASSERT_TRUE(trace::configure("chain", 1 << 10));
    static_cast<void>(run_cycles(GetParam()));
    EXPECT_TRUE(all_events().empty());
  });
}

INSTANTIATE_TEST_SUITE_P(Supplies, TracedHeap, testing::ValuesIn(tested_supplies()),
                         [](const auto& tested) { return test_name(tested.param); });

}  // namespace
}  // namespace pagetrap
