// Sources that fail, and pages that are poisoned. Nothing aborts.
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

#include <pagetrap/vm/signals.hpp>

#include "pager/support.hpp"

namespace pagetrap::pager {
namespace {

class Failures : public ::testing::TestWithParam<Way> {
 protected:
  static constexpr std::uint64_t kPages = 64;
  void SetUp() override {
    if (!is_available(GetParam())) GTEST_SKIP() << "not on this machine";
  }
  Region region(RegionOptions options = {}) {
    options.backend = GetParam().backend;
    options.name = "failing";
    return Region::create(*pager_, bytes(Pages{kPages}), source_, options).value();
  }
  std::unique_ptr<Pager> pager_ = Pager::create({.budget_bytes = bytes(Pages{16})}).value();
  StoreSource source_{kPages, {.retains_copy = true}};
};

class FailuresDeathTest : public Failures {};

TEST_P(FailuresDeathTest, AFailedFillRaisesTheSignalAndSaysWhy) {
  source_.failing_page = 7;
  source_.failures_left = 1000;
  EXPECT_DEATH(
      {
        auto paged = region();
        static_cast<void>(words(paged)[7 * words_in_page()]);
      },
      "page 7 of paged region 'failing' could not be filled: StoreSource::fill: errno 5");
}

sigjmp_buf g_back;
int g_signal = 0;
void leave(int signal) {
  g_signal = signal;
  siglongjmp(g_back, 1);
}

TEST_P(Failures, APoisonedPageStaysSoAndItsNeighboursDoNot) {
  struct sigaction action {};
  struct sigaction old_bus {};
  struct sigaction old_segv {};
  action.sa_handler = leave;
  ASSERT_EQ(::sigaction(SIGBUS, &action, &old_bus), 0);
  ASSERT_EQ(::sigaction(SIGSEGV, &action, &old_segv), 0);
  {
    ASSERT_TRUE(install_signal_handlers());
    auto paged = region();
    source_.failing_page = 7;
    source_.failures_left = 1;
    for (int round = 0; round < 3; ++round) {
      g_signal = 0;
      if (sigsetjmp(g_back, 1) == 0) static_cast<void>(words(paged)[7 * words_in_page()]);
      EXPECT_TRUE(g_signal == SIGBUS || g_signal == SIGSEGV) << g_signal;
    }
    EXPECT_EQ(words(paged)[6 * words_in_page()], 0U);
    EXPECT_EQ(words(paged)[8 * words_in_page()], 0U);
    EXPECT_EQ(paged.statistics().poisoned_pages, 1U);
    EXPECT_EQ(paged.statistics().failed_fills, 1U);
    const auto pin = paged.pin({paged.data() + bytes(Pages{7}), Pages{1}});
    ASSERT_FALSE(pin);
    EXPECT_EQ(pin.error().number, EIO) << describe(pin.error());
    // The owner gives the page up, and has a fresh one.
    const auto discarded = paged.discard({paged.data() + bytes(Pages{7}), Pages{1}});
    ASSERT_TRUE(discarded) << describe(discarded.error());
    words(paged)[7 * words_in_page()] = 5;
    EXPECT_EQ(words(paged)[7 * words_in_page()], 5U);
    EXPECT_EQ(paged.statistics().poisoned_pages, 0U);
  }
  ::sigaction(SIGBUS, &old_bus, nullptr);
  ::sigaction(SIGSEGV, &old_segv, nullptr);
}

struct Owner {
  std::atomic<int> asked{0};
  std::atomic<unsigned> last_attempt{0};
  std::atomic<bool> writing{false};
  OnError answer = OnError::retry;
  static OnError ask(void* self, const SourceFailure& failure) noexcept PAGETRAP_SIGNAL_SAFE {
    auto& owner = *static_cast<Owner*>(self);
    owner.asked.fetch_add(1);
    owner.last_attempt.store(failure.attempt);
    owner.writing.store(failure.writing);
    return owner.answer;
  }
};

TEST_P(Failures, TheOwnerMayHaveItTriedAgain) {
  Owner owner;
  auto paged = region({.on_failure = Owner::ask, .failure_self = &owner});
  std::memset(source_.at(3), 0x11, page_size());
  source_.failing_page = 3;
  source_.failures_left = 4;
  EXPECT_EQ(words(paged)[3 * words_in_page()], 0x1111111111111111U);
  EXPECT_EQ(owner.asked.load(), 4);
  EXPECT_EQ(owner.last_attempt.load(), 4U);
}

TEST_P(Failures, OrTakeZeroes) {
  Owner owner{.answer = OnError::zeroes};
  auto paged = region({.on_failure = Owner::ask, .failure_self = &owner});
  std::memset(source_.at(3), 0x11, page_size());
  source_.failing_page = 3;
  source_.failures_left = 1;
  EXPECT_EQ(words(paged)[3 * words_in_page()], 0U);
  EXPECT_EQ(owner.asked.load(), 1);
}

TEST_P(Failures, AFailureAroundAFaultIsNobodysUntilItIsTouched) {
  Owner owner;
  auto paged = region({.prefetch = false, .on_failure = Owner::ask, .failure_self = &owner});
  source_.failing_page = 5;
  source_.failures_left = 2;
  for (std::uint64_t page = 0; page < 5; ++page) words(paged)[page * words_in_page()] = page;
  EXPECT_EQ(owner.asked.load(), 0);
  words(paged)[5 * words_in_page()] = 5;
  for (std::uint64_t page = 0; page < 6; ++page)
    EXPECT_EQ(words(paged)[page * words_in_page()], page);
}

TEST_P(Failures, AFullStoreLosesNothing) {
  Owner owner;
  auto paged = region({.on_failure = Owner::ask, .failure_self = &owner});
  source_.refuses_writes = true;
  for (std::uint64_t page = 0; page < 40; ++page) words(paged)[page * words_in_page()] = page + 1;
  EXPECT_GT(owner.asked.load(), 0);
  EXPECT_TRUE(owner.writing.load());
  EXPECT_GT(pager_->statistics().over_budget, 0U);
  EXPECT_GT(paged.statistics().failed_writes, 0U);
  EXPECT_EQ(paged.flush().error().number, ENOSPC);
  for (std::uint64_t page = 0; page < 40; ++page)
    EXPECT_EQ(words(paged)[page * words_in_page()], page + 1);
  source_.refuses_writes = false;
  // There is room again: the budget is reached, and everything is stored.
  ASSERT_TRUE(pager_->set_budget(bytes(Pages{8})));
  EXPECT_LE(paged.statistics().resident_pages, 8U);
  ASSERT_TRUE(paged.flush());
  for (std::uint64_t page = 0; page < 40; ++page) EXPECT_EQ(source_.word(page, 0), page + 1);
}

TEST_P(FailuresDeathTest, AStoreIntoAPureRegionIsAnError) {
  EXPECT_DEATH(
      {
        auto source = mixed_pages();
        auto paged =
            Region::create(*pager_, bytes(Pages{8}), source, {.backend = GetParam().backend})
                .value();
        static_cast<void>(words(paged)[0]);
        words(paged)[0] = 1;
      },
      "");
}

INSTANTIATE_TEST_SUITE_P(Ways, Failures, ::testing::ValuesIn(kWays), way_name);
INSTANTIATE_TEST_SUITE_P(Ways, FailuresDeathTest, ::testing::ValuesIn(kWays), way_name);

}  // namespace
}  // namespace pagetrap::pager
