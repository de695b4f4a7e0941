// The policies alone, over a table of links.
#include <array>

#include "pager/support.hpp"

namespace pagetrap::pager {
namespace {

class Links final : public FrameTable {
 public:
  FrameLinks& links(FrameId frame) noexcept PAGETRAP_SIGNAL_SAFE override { return all_.at(frame); }

 private:
  std::array<FrameLinks, 256> all_{};
};

std::vector<FrameId> take(Policy& policy, FrameTable& table, std::size_t count) {
  std::vector<FrameId> out(count);
  out.resize(policy.victims(table, out));
  return out;
}

TEST(List, TakesFromTheFrontAndFromTheMiddle) {
  Links table;
  FrameList list(1);
  for (FrameId frame = 1; frame <= 5; ++frame) list.push_back(table, frame);
  list.remove(table, 3);
  list.remove(table, 5);
  list.push_front(table, 9);
  std::vector<FrameId> order;
  while (list.size() != 0) order.push_back(list.pop_front(table));
  EXPECT_EQ(order, (std::vector<FrameId>{9, 1, 2, 4}));
  EXPECT_EQ(list.pop_front(table), kNoFrame);
  EXPECT_EQ(table.links(4).list, 0);
}

TEST(GhostQueues, AScanDoesNotPushOutWhatComesBack) {
  Links table;
  GhostQueues policy;
  for (FrameId frame = 1; frame <= 40; ++frame) policy.on_refault(table, frame, 0);
  for (FrameId frame = 101; frame <= 150; ++frame) policy.on_fill(table, frame);
  // All of the scan but its last twentieth of all frames goes first, in order.
  const auto first = take(policy, table, 40);
  for (FrameId i = 0; i < 40; ++i) EXPECT_EQ(first[i], 101 + i);
}

TEST(GhostQueues, WhatWasAwayForLongStartsAgain) {
  Links table;
  GhostQueues policy;
  for (FrameId frame = 1; frame <= 10; ++frame) policy.on_refault(table, frame, 0);
  policy.on_refault(table, 20, 1000);  // far more evictions than frames
  policy.on_refault(table, 21, 1000);
  EXPECT_EQ(take(policy, table, 1), (std::vector<FrameId>{20}));
}

TEST(GhostQueues, EventsMoveFrames) {
  Links table;
  GhostQueues policy;
  for (FrameId frame = 1; frame <= 6; ++frame) policy.on_fill(table, frame);
  policy.on_event(table, 5, FrameEvent::dont_need);
  policy.on_event(table, 1, FrameEvent::will_need);
  policy.on_event(table, 2, FrameEvent::gone);
  std::array<FrameId, 8> upcoming{};
  EXPECT_EQ(policy.upcoming(table, upcoming), 4U);
  EXPECT_EQ(upcoming[0], 5U);
  EXPECT_EQ(take(policy, table, 8), (std::vector<FrameId>{5, 3, 4, 1, 6}));
  EXPECT_TRUE(take(policy, table, 8).empty());
}

TEST(Fifo, IsOne) {
  Links table;
  Fifo policy;
  policy.on_fill(table, 1);
  policy.on_refault(table, 2, 1);
  policy.on_fill(table, 3);
  policy.on_event(table, 1, FrameEvent::kept);
  EXPECT_EQ(take(policy, table, 2), (std::vector<FrameId>{2, 3}));
  policy.on_event(table, 2, FrameEvent::kept);
  EXPECT_EQ(take(policy, table, 8), (std::vector<FrameId>{1, 2}));
}

// Zipf-like traffic and a scan now and then: the ghost list must beat a plain queue.
TEST(GhostQueues, MissesLessThanFifo) {
  const auto misses = [](Policy& policy) {
    auto pager = Pager::create({.budget_bytes = bytes(Pages{256}), .helper_thread = false}).value();
    auto source = mixed_pages();
    auto region =
        Region::create(*pager, bytes(Pages{1024}), source, {.policy = &policy, .fault_around = 1})
            .value();
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < 60'000; ++i) {
      const std::uint64_t random = mixed(i);
      // Nine of ten reads go to a sixth of the pages.
      const std::uint64_t page = random % 10 != 0 ? (random >> 8) % 170 : (random >> 8) % 1024;
      sum += words(region)[page * words_in_page()];
    }
    EXPECT_NE(sum, 0U);
    return region.statistics().faults;
  };
  GhostQueues queues;
  Fifo fifo;
  const std::uint64_t by_queues = misses(queues);
  const std::uint64_t by_fifo = misses(fifo);
  EXPECT_LT(static_cast<double>(by_queues), 0.85 * static_cast<double>(by_fifo));
}

}  // namespace
}  // namespace pagetrap::pager
