#include <pagetrap/compress/page_store.hpp>

#include <signal.h>
#include <sys/time.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "compress/support.hpp"

namespace pagetrap::compress {
namespace {

PageStore make(PageStoreOptions options = {}) {
  return PageStore::create(std::move(options)).value();
}

TEST(PageStores, GiveBackWhatTheyWereGiven) {
  PageStore store = make();
  for (const Tier tier : {Tier::warm, Tier::cold}) {
    for (const Sample& sample : samples(100)) {
      std::vector<StoredPage> stored;
      for (std::size_t i = 0; i < 100; ++i)
        stored.push_back(store.store(page_at(sample.pages, i), tier).value());
      Bytes back(page_size());
      for (std::size_t i = 0; i < 100; ++i) {
        ASSERT_TRUE(store.load(stored[i], back)) << sample.name;
        ASSERT_TRUE(std::ranges::equal(back, page_at(sample.pages, i))) << sample.name;
        ASSERT_TRUE(store.same(stored[i], back));
        back[i] ^= std::byte{1};
        ASSERT_FALSE(store.same(stored[i], back));
      }
      for (const StoredPage& page : stored) ASSERT_TRUE(store.release(page));
    }
  }
  const PageStoreStatistics statistics = store.statistics();
  EXPECT_EQ(statistics.pages(), 0U);
  EXPECT_EQ(statistics.blob_bytes, 0U);
  EXPECT_EQ(statistics.damaged, 0U);
}

TEST(PageStores, PutPagesIntoClasses) {
  PageStore store = make();
  const Bytes zeroes(page_size());
  const Bytes same(page_size(), std::byte{0xa5});
  Bytes almost = same;
  almost.back() = std::byte{0};
  const Bytes noise = random_bytes(page_size(), 1);
  EXPECT_EQ(store.store(zeroes)->page_class, PageClass::zero);
  EXPECT_EQ(store.statistics().blob_bytes, 0U);
  EXPECT_EQ(store.store(same)->page_class, PageClass::same_filled);
  EXPECT_LE(store.statistics().blob_bytes, 12U);
  EXPECT_EQ(store.store(almost)->page_class, PageClass::compressed);
  EXPECT_EQ(store.store(noise)->page_class, PageClass::raw);
  const PageStoreStatistics statistics = store.statistics();
  EXPECT_EQ(statistics.zero_pages, 1U);
  EXPECT_EQ(statistics.same_filled_pages, 1U);
  EXPECT_EQ(statistics.compressed_pages, 1U);
  EXPECT_EQ(statistics.raw_pages, 1U);
  EXPECT_EQ(statistics.pages(), 4U);
}

TEST(PageStores, KnowWhatIsNotThere) {
  PageStore store = make();
  Bytes page = text_pages(1);
  const StoredPage stored = store.store(page).value();
  ASSERT_TRUE(store.release(stored));
  EXPECT_EQ(store.release(stored).error().number, ENOENT);
  EXPECT_EQ(store.load(stored, page).error().number, ENOENT);
  EXPECT_EQ(store.load({}, page).error().number, ENOENT);
  EXPECT_EQ(store.release({}).error().number, ENOENT);
  EXPECT_FALSE(store.same({}, page));
  EXPECT_EQ(store.store(std::span(page).first(100)).error().number, EINVAL);
  EXPECT_EQ(store.load(stored, std::span(page).first(100)).error().number, EINVAL);
  EXPECT_EQ(store.statistics().pages(), 0U);
}

TEST(PageStores, RefuseNonsense) {
  EXPECT_EQ(PageStore::create({.budget_bytes = 1}).error().number, EINVAL);
  PageStoreOptions options;
  options.workspaces = 0;
  EXPECT_EQ(PageStore::create(std::move(options)).error().number, EINVAL);
  options = {};
  options.spill_bytes = 1_MiB;
  options.spill_directory = "/nowhere";
  EXPECT_EQ(PageStore::create(std::move(options)).error().number, ENOENT);
  PageStore store = make();
  EXPECT_EQ(store.use(nullptr).error().number, EINVAL);
}

TEST(PageStores, AreFullWhenTheirBudgetIs) {
  PageStoreOptions options;
  options.budget_bytes = 2_MiB;
  PageStore store = make(std::move(options));
  const Bytes noise = random_bytes(1000 * page_size(), 1);
  std::vector<StoredPage> stored;
  Result<StoredPage> last = StoredPage{};
  while ((last = store.store(page_at(noise, stored.size())))) stored.push_back(*last);
  EXPECT_EQ(last.error().number, ENOMEM);
  EXPECT_LE(store.statistics().pool_bytes, 2_MiB);
  // A page of 4 KiB and its checksum: three to a segment of four.
  EXPECT_GT(stored.size() * page_size(), 2_MiB * 70 / 100);
  EXPECT_TRUE(store.store(Bytes(page_size()))) << "zeroes need no room";
  Bytes back(page_size());
  for (std::size_t i = 0; i < stored.size(); ++i) {
    ASSERT_TRUE(store.load(stored[i], back));
    ASSERT_TRUE(std::ranges::equal(back, page_at(noise, i)));
  }
  store.set_budget(4_MiB);
  EXPECT_TRUE(store.store(page_at(noise, stored.size())));
}

TEST(PageStores, LearnAndStillReadWhatTheyStoredBefore) {
  PageStore store = make();
  const Bytes text = text_pages(1500);
  std::vector<StoredPage> before;
  for (std::size_t i = 1000; i < 1500; ++i) before.push_back(store.store(page_at(text, i)).value());
  const std::size_t plain = store.statistics().blob_bytes;
  EXPECT_EQ(store.statistics().dictionary_bytes, 0U);
  ASSERT_TRUE(store.train(std::span(text).first(1000 * page_size())));
  EXPECT_GT(store.statistics().dictionary_bytes, 50'000U);
  std::vector<StoredPage> after;
  for (const StoredPage& page : before) after.push_back(store.again(page, Tier::warm).value());
  EXPECT_LT(store.statistics().blob_bytes - plain, plain * 9 / 10);
  Bytes back(page_size());
  for (std::size_t i = 0; i < 500; ++i) {
    ASSERT_TRUE(store.load(before[i], back));
    ASSERT_TRUE(std::ranges::equal(back, page_at(text, 1000 + i)));
    ASSERT_TRUE(store.load(after[i], back));
    ASSERT_TRUE(std::ranges::equal(back, page_at(text, 1000 + i)));
    ASSERT_TRUE(store.release(before[i]));
    ASSERT_EQ(after[i].hash, before[i].hash);
  }
  EXPECT_EQ(store.train(std::span(text).first(page_size())).error().number, EINVAL);
  ASSERT_TRUE(store.load(after[0], back)) << "after training that failed";
}

TEST(PageStores, EndOldCodecsWithTheirLastPage) {
  PageStore store = make();
  const Bytes text = text_pages(1);
  std::vector<StoredPage> pages;
  unsigned used = 0;
  Result<Done> last = Done{};
  while ((last = store.use(shuffled_lz4(2 + used).value()))) {
    pages.push_back(store.store(text).value());
    ASSERT_LT(++used, 100U);
  }
  EXPECT_EQ(last.error().number, EAGAIN);
  Bytes back(page_size());
  for (const StoredPage& page : pages) {
    ASSERT_TRUE(store.load(page, back));
    ASSERT_EQ(back, text);
  }
  ASSERT_TRUE(store.release(pages[3]));
  ASSERT_TRUE(store.use(lz4()));
  for (std::size_t i = 0; i < pages.size(); ++i) {
    if (i == 3) continue;
    ASSERT_TRUE(store.load(pages[i], back));
    ASSERT_EQ(back, text);
  }
}

TEST(PageStores, ColdPagesAreSmaller) {
  PageStore store = make();
  const Bytes text = text_pages(1200);
  ASSERT_TRUE(store.train(std::span(text).first(1000 * page_size()), Tier::cold));
  std::vector<StoredPage> pages;
  for (std::size_t i = 1000; i < 1200; ++i) pages.push_back(store.store(page_at(text, i)).value());
  const std::size_t warm = store.statistics().blob_bytes;
  for (StoredPage& page : pages) {
    const StoredPage cold = store.again(page, Tier::cold).value();
    ASSERT_TRUE(store.release(page));
    page = cold;
  }
  EXPECT_LT(store.statistics().blob_bytes, warm * 7 / 10);
  EXPECT_EQ(store.again(store.store(Bytes(page_size())).value(), Tier::cold).error().number,
            EINVAL);
  Bytes back(page_size());
  for (std::size_t i = 0; i < pages.size(); ++i) {
    ASSERT_TRUE(store.load(pages[i], back));
    ASSERT_TRUE(std::ranges::equal(back, page_at(text, 1000 + i)));
  }
}

TEST(PageStores, HaveHashesOfTheirOwn) {
  PageStore one = make();
  PageStore other = make();
  const Bytes text = text_pages(1);
  EXPECT_EQ(one.hash(text), one.hash(text));
  EXPECT_NE(one.hash(text), other.hash(text));
}

TEST(PageStores, AreMoved) {
  PageStore first = make();
  const Bytes text = text_pages(1);
  const StoredPage page = first.store(text).value();
  PageStore second = std::move(first);
  Bytes back(page_size());
  ASSERT_TRUE(second.load(page, back));
  PageStore third = make();
  third = std::move(second);
  ASSERT_TRUE(third.load(page, back));
  EXPECT_EQ(back, text);
}

TEST(PageStores, ServeManyThreadsWhileTheyLearnAndCompact) {
  PageStoreOptions options;
  options.workspaces = 3;
  PageStore store = make(std::move(options));
  const Bytes text = text_pages(1000);
  std::atomic<bool> stop{false};
  std::atomic<unsigned> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 5; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      std::vector<std::pair<StoredPage, std::size_t>> mine;
      Bytes back(page_size());
      while (!stop.load()) {
        const std::size_t index = random() % 1000;
        const auto page =
            store.store(page_at(text, index), random() % 4 == 0 ? Tier::cold : Tier::warm);
        if (!page) {
          wrong.fetch_add(1);
          continue;
        }
        mine.emplace_back(*page, index);
        const std::size_t chosen = random() % mine.size();
        if (!store.load(mine[chosen].first, back) ||
            !std::ranges::equal(back, page_at(text, mine[chosen].second)))
          wrong.fetch_add(1);
        if (mine.size() > 200) {
          if (!store.release(mine[chosen].first)) wrong.fetch_add(1);
          mine[chosen] = mine.back();
          mine.pop_back();
        }
      }
      for (const auto& [page, index] : mine)
        if (!store.release(page)) wrong.fetch_add(1);
    });
  }
  for (unsigned i = 0; i < 4; ++i) {
    const auto trained = store.train(std::span(text).first((200 + 50 * i) * page_size()),
                                     i % 2 == 0 ? Tier::warm : Tier::cold);
    EXPECT_TRUE(trained || trained.error().number == EAGAIN);
    while (store.compact(10)) {
    }
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_EQ(store.statistics().pages(), 0U);
}

// A handler that uses the store while the thread that it interrupted is in a call.
PageStore* g_store = nullptr;
StoredPage g_page;
std::atomic<unsigned> g_calls{0};
std::atomic<unsigned> g_wrong{0};

void on_alarm(int) {
  static std::array<std::byte, 4096> back;
  g_calls.fetch_add(1);
  if (!g_store->load(g_page, back)) g_wrong.fetch_add(1);
}

TEST(PageStores, MayBeUsedBySignalHandlers) {
  ASSERT_EQ(page_size(), 4096U);
  PageStoreOptions options;
  options.workspaces = 1;  // whoever is interrupted with it would never give it back
  PageStore store = make(std::move(options));
  const Bytes text = text_pages(50);
  g_store = &store;
  g_page = store.store(page_at(text, 0)).value();
  struct sigaction action {};
  struct sigaction old {};
  action.sa_handler = on_alarm;
  action.sa_flags = SA_RESTART;
  ASSERT_EQ(::sigaction(SIGALRM, &action, &old), 0);
  itimerval often{{0, 200}, {0, 200}};
  ASSERT_EQ(::setitimer(ITIMER_REAL, &often, nullptr), 0);
  Bytes back(page_size());
  for (unsigned i = 0; i < 50'000 && g_calls.load() < 1000; ++i) {
    const StoredPage page = store.store(page_at(text, i % 50)).value();
    ASSERT_TRUE(store.load(page, back));
    ASSERT_TRUE(store.release(page));
  }
  often = {};
  ::setitimer(ITIMER_REAL, &often, nullptr);
  ::sigaction(SIGALRM, &old, nullptr);
  EXPECT_GT(g_calls.load(), 100U);
  EXPECT_EQ(g_wrong.load(), 0U);
}

}  // namespace
}  // namespace pagetrap::compress
