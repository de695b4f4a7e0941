// The helper: what it reads ahead, what it lets sources prepare, and that it stops when told.
#include <chrono>
#include <mutex>
#include <set>
#include <thread>

#include "pager/support.hpp"

namespace pagetrap::pager {
namespace {

constexpr std::uint64_t kPages = 4096;

/// Remembers what it was asked to prepare, and what the snapshots said.
class PreparingSource final : public Source {
 public:
  [[nodiscard]] SourceTraits traits() const noexcept override {
    return {.finds_changes = true, .prepares = true};
  }
  Transfer fill(std::span<const PageRef> pages) noexcept PAGETRAP_SIGNAL_SAFE override {
    return store_.fill(pages);
  }
  Transfer write_back(std::span<const PageRef> pages) noexcept PAGETRAP_SIGNAL_SAFE override {
    return store_.write_back(pages);
  }
  void prefetch(std::uint64_t first, std::size_t count) noexcept override {
    const std::lock_guard lock(mutex_);
    announced_.emplace_back(first, count);
  }
  void prepare(std::span<const PageRef> snapshots) noexcept override {
    const std::lock_guard lock(mutex_);
    for (const PageRef& page : snapshots) {
      prepared_.insert(page.index);
      std::uint64_t word = 0;
      std::memcpy(&word, page.bytes, sizeof word);
      if (word != page.index + 1 && word != 0) ++wrong_;
    }
  }
  [[nodiscard]] std::size_t prepared() const {
    const std::lock_guard lock(mutex_);
    return prepared_.size();
  }
  [[nodiscard]] unsigned wrong() const {
    const std::lock_guard lock(mutex_);
    return wrong_;
  }
  [[nodiscard]] std::vector<std::pair<std::uint64_t, std::size_t>> announced() const {
    const std::lock_guard lock(mutex_);
    return announced_;
  }

 private:
  StoreSource store_{kPages, {.finds_changes = true}};
  mutable std::mutex mutex_;
  std::set<std::uint64_t> prepared_;
  std::vector<std::pair<std::uint64_t, std::size_t>> announced_;
  unsigned wrong_ = 0;
};

template <class Condition>
bool comes_true(Condition condition) {
  for (int i = 0; i < 1000 && !condition(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return condition();
}

class Helping : public ::testing::Test {
 protected:
  std::unique_ptr<Pager> pager_ = Pager::create({.budget_bytes = bytes(Pages{1024})}).value();
};

TEST_F(Helping, SourcesSeeCopiesOfPagesThatWillBeVictims) {
  PreparingSource source;
  auto region = Region::create(*pager_, bytes(Pages{kPages}), source);
  if (!region) GTEST_SKIP() << describe(region.error());
  for (std::uint64_t page = 0; page < kPages; ++page)
    words(*region)[page * words_in_page()] = page + 1;
  EXPECT_TRUE(comes_true([&] { return source.prepared() >= 200; })) << source.prepared();
  // Of its page, as it is, or as it was before it was written: pages are read ahead.
  EXPECT_EQ(source.wrong(), 0U);
}

TEST_F(Helping, ReadersInOrderFindPagesThere) {
  PreparingSource source;
  auto region = Region::create(*pager_, bytes(Pages{kPages}), source);
  if (!region) GTEST_SKIP() << describe(region.error());
  std::uint64_t sum = 0;
  for (std::uint64_t page = 0; page < kPages; ++page) sum += words(*region)[page * words_in_page()];
  EXPECT_EQ(sum, 0U);
  const RegionStatistics seen = region->statistics();
  EXPECT_LT(seen.faults, kPages / 32);
  EXPECT_GT(seen.prefetched, kPages / 64);  // much more, where the helper gets a CPU
  ASSERT_FALSE(source.announced().empty());
  for (const auto& [first, count] : source.announced()) EXPECT_LE(first + count, 2 * kPages);
}

TEST_F(Helping, LooksNoFurtherThanThere) {
  PreparingSource source;
  auto region = Region::create(*pager_, bytes(Pages{kPages}), source, {.prefetch = false});
  if (!region) GTEST_SKIP() << describe(region.error());
  for (std::uint64_t page = 0; page < kPages; ++page)
    static_cast<void>(words(*region)[page * words_in_page()]);
  EXPECT_EQ(region->statistics().prefetched, 0U);
  EXPECT_TRUE(source.announced().empty());
}

TEST_F(Helping, EvictAllGivesUpWhatIsReadAhead) {
  for (int round = 0; round < 30; ++round) {
    PreparingSource source;
    auto region = Region::create(*pager_, bytes(Pages{kPages}), source);
    if (!region) GTEST_SKIP() << describe(region.error());
    for (std::uint64_t page = 0; page < 300 + 10U * static_cast<unsigned>(round); ++page)
      static_cast<void>(words(*region)[page * words_in_page()]);
    ASSERT_TRUE(region->will_need({region->data() + bytes(Pages{2000}), Pages{1000}}, true));
    ASSERT_TRUE(region->evict_all());
    ASSERT_EQ(resident_in(region->range()), 0U) << "round " << round;
  }
}

}  // namespace
}  // namespace pagetrap::pager
