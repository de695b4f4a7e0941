// CompressedSource: its promises to the pager, without one and beneath one.
#include <pagetrap/compress/compressed_source.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include <pagetrap/pager/pager.hpp>

#include "compress/support.hpp"

namespace pagetrap::compress {
namespace {

using pager::PageRef;

CompressedSourceOptions no_lessons() {
  CompressedSourceOptions options;
  options.learn_from_pages = 0;
  options.retain_first = 4;
  return options;
}

class Source : public testing::Test {
 protected:
  void open(CompressedSourceOptions options) {
    source_ = CompressedSource::create(64_MiB, std::move(options)).value();
  }
  void SetUp() override { open(no_lessons()); }

  pager::Transfer write(std::uint64_t index, const Bytes& page) {
    buffer_ = page;
    const PageRef ref{index, buffer_.data()};
    return source_->write_back(std::span(&ref, 1));
  }
  Bytes fill(std::uint64_t index) {
    Bytes page(page_size(), std::byte{0xee});
    const PageRef ref{index, page.data()};
    const auto transfer = source_->fill(std::span(&ref, 1));
    EXPECT_EQ(transfer.done, 1U) << describe(transfer.error);
    return page;
  }
  void prepare(std::uint64_t index, const Bytes& page) {
    buffer_ = page;
    const PageRef ref{index, buffer_.data()};
    source_->prepare(std::span(&ref, 1));
  }
  Bytes text(std::size_t i) {
    const auto page = page_at(text_, i);
    return {page.begin(), page.end()};
  }

  std::unique_ptr<CompressedSource> source_;
  Bytes text_ = text_pages(300);
  Bytes buffer_;
};

TEST_F(Source, FreshPagesAreZeroes) { EXPECT_EQ(fill(7), Bytes(page_size())); }

TEST_F(Source, KnowsUnchangedPagesByTheirContents) {
  EXPECT_EQ(write(1, text(1)).unchanged, 0U);
  EXPECT_EQ(fill(1), text(1));
  source_->arrived(1, 1, 1);
  EXPECT_EQ(source_->statistics().retained_pages, 1U);
  EXPECT_EQ(write(1, text(1)).unchanged, 1U);
  EXPECT_EQ(source_->statistics().retained_pages, 0U);
  for (std::uint64_t i = 2; i < 20; ++i) write(i, text(i));
  // A quarter of all copies may be retained ones; those of other pages are let go.
  for (std::uint64_t i = 2; i < 20; ++i) {
    EXPECT_EQ(fill(i), text(i));
    source_->arrived(i, 1, 1);
  }
  EXPECT_GT(source_->statistics().let_go, 10U);
  EXPECT_LE(source_->statistics().retained_pages, 5U);
  EXPECT_EQ(write(19, text(19)).unchanged, 0U);
  EXPECT_EQ(write(2, text(2)).unchanged, 1U);
  EXPECT_EQ(fill(2), text(2));
  EXPECT_EQ(write(2, text(3)).unchanged, 0U);
  EXPECT_EQ(fill(2), text(3));
}

TEST_F(Source, KeepsWhatHasNotArrived) {
  // The pager may give up what it was given, and ask again.
  write(1, text(1));
  for (unsigned i = 0; i < 5; ++i) EXPECT_EQ(fill(1), text(1));
  prepare(1, text(2));  // a snapshot of before the page was written back
  EXPECT_EQ(fill(1), text(1));
}

TEST_F(Source, PreparesPagesThatWillBeWrittenBack) {
  for (std::uint64_t i = 0; i < 20; ++i) write(i, text(i));
  fill(1);
  source_->arrived(1, 1, 1);
  prepare(1, text(100));
  EXPECT_EQ(source_->statistics().prepared, 1U);
  EXPECT_EQ(write(1, text(100)).unchanged, 1U);
  EXPECT_EQ(fill(1), text(100));
  source_->arrived(1, 1, 1);
  prepare(1, text(101));
  // Written after the snapshot.
  EXPECT_EQ(write(1, text(102)).unchanged, 0U);
  EXPECT_EQ(fill(1), text(102));
}

TEST_F(Source, ForgetsForGood) {
  write(1, text(1));
  write(2, text(2));
  source_->forget(0, 100);
  EXPECT_EQ(fill(1), Bytes(page_size()));
  EXPECT_EQ(source_->statistics().store.blob_bytes, 0U);
  prepare(2, text(2));
  EXPECT_EQ(fill(2), Bytes(page_size()));
}

TEST_F(Source, SaysWhenItIsFullAndKeepsWhatItHas) {
  CompressedSourceOptions options = no_lessons();
  options.store.budget_bytes = 256_KiB;
  open(std::move(options));
  const Bytes noise = random_bytes(100 * page_size(), 1);
  std::uint64_t stored = 0;
  pager::Transfer transfer;
  for (; stored < 100; ++stored) {
    const auto page = page_at(noise, stored);
    transfer = write(stored, {page.begin(), page.end()});
    if (transfer.done == 0) break;
  }
  EXPECT_EQ(transfer.error.number, ENOMEM);
  EXPECT_GT(stored, 40U);
  for (std::uint64_t i = 0; i < stored; ++i)
    ASSERT_TRUE(std::ranges::equal(fill(i), page_at(noise, i)));
  // A page that comes back takes the place of its old copy.
  source_->arrived(0, 1, 1);
  EXPECT_EQ(write(0, text(0)).done, 1U);
}

TEST_F(Source, AdaptsHowManyCopiesItRetains) {
  const auto rounds = [&](bool changes) {
    for (unsigned round = 0; round < 60; ++round) {
      for (std::uint64_t i = 0; i < 200; ++i) {
        fill(i);
        source_->arrived(i, 1, 0);  // twice the memory would not have kept it
        write(i, text(changes ? (i + round + 1) % 200 : i));
      }
    }
  };
  for (std::uint64_t i = 0; i < 200; ++i) write(i, text(i));
  rounds(false);
  EXPECT_EQ(source_->statistics().retain_sixteenths, 8U);
  rounds(true);
  EXPECT_LE(source_->statistics().retain_sixteenths, 1U);
}

TEST_F(Source, LearnsFromWhatIsPrepared) {
  CompressedSourceOptions options;
  options.learn_from_pages = 200;
  open(std::move(options));
  for (std::uint64_t i = 0; i < 4 * 200 + 8; ++i) prepare(i % 300, text(i % 300));
  for (unsigned i = 0; i < 600 && !source_->statistics().learnt; ++i) ::usleep(50'000);
  ASSERT_TRUE(source_->statistics().learnt);
  write(1, text(1));
  EXPECT_EQ(fill(1), text(1));
}

TEST_F(Source, ChillsAndSpills) {
  CompressedSourceOptions options = no_lessons();
  options.store.spill_bytes = 8_MiB;
  options.store.spill_directory = "/tmp";
  open(std::move(options));
  EXPECT_TRUE(source_->traits().may_block);
  EXPECT_TRUE(source_->traits().shared_store);
  for (std::uint64_t i = 0; i < 300; ++i) write(i, text(i));
  write(300, Bytes(page_size()));
  const std::size_t warm = source_->statistics().store.blob_bytes;
  ASSERT_TRUE(source_->chill(0, 310));
  EXPECT_LT(source_->statistics().store.blob_bytes, warm * 85 / 100);
  ASSERT_TRUE(source_->spill(0, 310));
  ASSERT_TRUE(source_->spill(0, 310)) << "again";
  EXPECT_EQ(source_->statistics().store.blob_bytes, 0U);
  EXPECT_EQ(source_->statistics().store.spilled_pages, 300U);
  for (std::uint64_t i = 0; i < 300; ++i) ASSERT_EQ(fill(i), text(i));
  EXPECT_EQ(source_->chill(0, 1 << 20).error().number, EINVAL);
}

/// As many pages leave as the sources below have.
void pass_a_round(CompressedSource& source, const Bytes& page) {
  const std::size_t pages = 1_MiB / page_size();
  for (std::size_t i = 0; i < pages; ++i) {
    const PageRef ref{pages - 1, const_cast<std::byte*>(page.data())};
    source.prepare(std::span(&ref, 1));
  }
}

TEST_F(Source, WhatStaysAwayGrowsCold) {
  source_ = CompressedSource::create(1_MiB, no_lessons()).value();
  for (std::uint64_t i = 0; i < 20; ++i) write(i, text(i));
  const std::size_t warm = source_->store().statistics().blob_bytes;
  for (int round = 0; round < 2; ++round) pass_a_round(*source_, text(50));
  EXPECT_EQ(source_->statistics().chilled, 0U);
  // This one has been in memory meanwhile.
  EXPECT_EQ(fill(7), text(7));
  source_->arrived(7, 1, 1);
  write(7, text(7));
  pass_a_round(*source_, text(50));
  EXPECT_EQ(source_->statistics().chilled, 19U);
  EXPECT_LT(source_->store().statistics().blob_bytes, warm * 95 / 100);
  for (int round = 0; round < 3; ++round) pass_a_round(*source_, text(50));
  EXPECT_EQ(source_->statistics().chilled, 20U) << "each once";
  for (std::uint64_t i = 0; i < 20; ++i) EXPECT_EQ(fill(i), text(i)) << i;
  EXPECT_EQ(source_->store().statistics().damaged, 0U);
}

TEST_F(Source, AndGoesToTheFile) {
  CompressedSourceOptions options = no_lessons();
  options.store.spill_bytes = 1_MiB;
  source_ = CompressedSource::create(1_MiB, std::move(options)).value();
  for (std::uint64_t i = 0; i < 20; ++i) write(i, text(i));
  for (int round = 0; round < 6; ++round) pass_a_round(*source_, text(50));
  EXPECT_EQ(source_->statistics().aged_out, 20U);
  EXPECT_EQ(source_->store().statistics().spilled_pages, 20U);
  for (std::uint64_t i = 0; i < 20; ++i) EXPECT_EQ(fill(i), text(i)) << i;
}

TEST_F(Source, NothingAgesWhereNobodyWantsIt) {
  CompressedSourceOptions options = no_lessons();
  options.chill_after = 0;
  source_ = CompressedSource::create(1_MiB, std::move(options)).value();
  for (std::uint64_t i = 0; i < 20; ++i) write(i, text(i));
  for (int round = 0; round < 16; ++round) pass_a_round(*source_, text(50));
  EXPECT_EQ(source_->statistics().chilled, 0U);
  EXPECT_EQ(source_->statistics().aged_out, 0U);
}

TEST(Sources, RefuseNonsense) {
  EXPECT_EQ(CompressedSource::create(0).error().number, EINVAL);
  CompressedSourceOptions options;
  options.retain_most = 17;
  EXPECT_EQ(CompressedSource::create(1_MiB, std::move(options)).error().number, EINVAL);
}

// Beneath a pager: every word has one writer, who knows what it must be.
TEST(CompressedRegion, LosesNoWrite) {
  constexpr unsigned kThreads = 4;
  constexpr std::size_t kPages = 2000;
  CompressedSourceOptions options;
  options.learn_from_pages = 300;
  auto source = CompressedSource::create(kPages * page_size(), std::move(options)).value();
  auto engine = pager::Pager::create({.budget_bytes = 4_MiB}).value();
  auto region = pager::Region::create(*engine, kPages * page_size(), *source);
  if (!region) GTEST_SKIP() << describe(region.error());
  auto* const words = reinterpret_cast<std::uint64_t*>(region->data());
  const std::size_t per_page = page_size() / sizeof(std::uint64_t);
  std::atomic<unsigned> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      std::vector<std::uint64_t> expected(kPages * 4);
      const auto at = [&](std::size_t i) -> std::uint64_t& {
        return words[i / 4 * per_page + i % 4 * kThreads * 3 + t];
      };
      for (unsigned round = 0; round < 20'000; ++round) {
        const std::size_t i = random() % expected.size();
        if (at(i) != expected[i]) wrong.fetch_add(1);
        if (round % 3 != 0) at(i) = expected[i] = random();
      }
      for (std::size_t i = 0; i < expected.size(); ++i)
        if (at(i) != expected[i]) wrong.fetch_add(1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0U);
  const auto statistics = source->statistics();
  EXPECT_GT(statistics.written, 1000U);
  EXPECT_EQ(statistics.store.damaged, 0U);
  EXPECT_EQ(region->statistics().failed_fills, 0U);
}

TEST(CompressedRegion, IsThereInAChild) {
  constexpr std::size_t kPages = 1000;
  const Bytes text = text_pages(kPages);
  auto source = CompressedSource::create(kPages * page_size(), no_lessons()).value();
  auto engine = pager::Pager::create({.budget_bytes = 2_MiB}).value();
  auto region = pager::Region::create(*engine, kPages * page_size(), *source);
  if (!region) GTEST_SKIP() << describe(region.error());
  std::memcpy(region->data(), text.data(), text.size());
  const pid_t child = ::fork();
  if (child == 0) {
    bool good = std::memcmp(region->data(), text.data(), text.size()) == 0;
    for (std::size_t i = 0; i < kPages; i += 3) region->data()[i * page_size()] = std::byte{1};
    for (std::size_t i = 0; i < kPages; i += 3)
      good &= region->data()[i * page_size()] == std::byte{1};
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(std::memcmp(region->data(), text.data(), text.size()), 0);
}

}  // namespace
}  // namespace pagetrap::compress
