// The pool with many threads: nobody gets another's bytes, while blobs are moved and slid.
#include <atomic>
#include <chrono>
#include <thread>

#include "compress/pool/blob_store.hpp"
#include "compress/support.hpp"

namespace pagetrap::compress {
namespace {

/// A blob that says whose it is in every byte.
void mark(std::span<std::byte> blob, std::uint64_t owner) {
  for (std::size_t i = 0; i < blob.size(); ++i)
    blob[i] = static_cast<std::byte>((owner * 0x9e37'79b9'7f4a'7c15) >> (i % 7 * 8) ^ i);
}

bool is_marked(std::span<const std::byte> blob, std::uint64_t owner) {
  Bytes expected(blob.size());
  mark(expected, owner);
  return std::ranges::equal(blob, expected);
}

class PoolThreads : public testing::TestWithParam<unsigned> {};

INSTANTIATE_TEST_SUITE_P(Shards, PoolThreads, testing::Values(1U, 4U),
                         testing::PrintToStringParamName());

TEST_P(PoolThreads, KeepTheirBlobsApart) {
  constexpr unsigned kThreads = 4;
  Budget budget(8_MiB);
  BlobStore store(budget);
  ASSERT_TRUE(store.open(64_MiB, GetParam()));
  ASSERT_TRUE(store.open_spill(unnamed_file("/tmp").value(), 16_MiB));
  std::atomic<bool> compacting{true};
  std::atomic<unsigned> wrong{0};
  std::atomic<unsigned> full{0};
  std::thread compactor([&] {
    while (compacting.load()) {
      if (!store.compact(4)) std::this_thread::yield();
    }
  });
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      struct Live {
        BlobId blob;
        std::size_t length;
        std::uint64_t owner;
      };
      std::mt19937_64 random(t);
      std::vector<Live> live;
      Bytes in(page_size());
      Bytes out(2 * page_size());
      for (std::uint64_t i = 0; i < 60'000; ++i) {
        const auto what = random() % 8;
        // Waves, so that there is something to compact.
        const std::size_t wanted = i / 5000 % 2 == 0 ? 4000 : 500;
        if (live.size() < wanted && what < 5) {
          const std::size_t length = 1 + random() % page_size();
          const std::uint64_t owner = i * kThreads + t;
          mark(std::span(in).first(length), owner);
          const auto blob = store.put(std::span(in).first(length / 3),
                                      std::span(in).subspan(length / 3, length - length / 3));
          if (blob) {
            live.push_back({*blob, length, owner});
          } else {
            full.fetch_add(1);
          }
        } else if (!live.empty()) {
          Live& one = live[random() % live.size()];
          const auto length = store.get(one.blob, out);
          if (!length || *length != one.length ||
              !is_marked(std::span(out).first(one.length), one.owner))
            wrong.fetch_add(1);
          if (what == 5) {
            const auto spilled = store.spill(one.blob, out);
            if (!spilled && spilled.error().number != EALREADY && spilled.error().number != ENOSPC)
              wrong.fetch_add(1);
          } else if (what > 5 || live.size() > wanted) {
            if (!store.release(one.blob)) wrong.fetch_add(1);
            one = live.back();
            live.pop_back();
          }
        }
      }
      for (const Live& one : live) {
        const auto length = store.get(one.blob, out);
        if (!length || !is_marked(std::span(out).first(*length), one.owner)) wrong.fetch_add(1);
        if (!store.release(one.blob)) wrong.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  compacting = false;
  compactor.join();
  EXPECT_EQ(wrong.load(), 0U);
  const SlabStatistics statistics = store.statistics();
  EXPECT_EQ(statistics.blobs, 0U);
  EXPECT_EQ(statistics.blob_bytes, 0U);
  EXPECT_GT(statistics.moved_blobs, 0U);
  EXPECT_EQ(store.file_bytes(), 0U);
  EXPECT_GT(full.load(), 0U) << "the budget was never used up";
}

TEST(PoolReaders, ReadWhatIsBeingMoved) {
  // One thread empties and refills around blobs that others read all the time.
  Budget budget(64_MiB);
  BlobStore store(budget);
  ASSERT_TRUE(store.open(64_MiB, 1));
  constexpr unsigned kRead = 200;
  std::vector<BlobId> read;
  std::vector<BlobId> filling;
  Bytes in(page_size());
  for (unsigned i = 0; i < kRead; ++i) {
    mark(std::span(in).first(700 + i), i);
    read.push_back(store.put({}, std::span(in).first(700 + i)).value());
    for (unsigned k = 0; k < 10; ++k) filling.push_back(store.put({}, in).value());
  }
  std::atomic<bool> stop{false};
  std::atomic<unsigned> wrong{0};
  std::vector<std::thread> readers;
  for (unsigned t = 0; t < 2; ++t) {
    readers.emplace_back([&, t] {
      Bytes out(2 * page_size());
      for (std::uint64_t i = t; !stop.load(); ++i) {
        const auto length = store.get(read[i % kRead], out);
        if (!length || *length != 700 + i % kRead ||
            !is_marked(std::span(out).first(*length), i % kRead))
          wrong.fetch_add(1);
      }
    });
  }
  std::mt19937_64 random(1);
  for (unsigned round = 0; round < 30; ++round) {
    for (const BlobId blob : filling) ASSERT_TRUE(store.release(blob));
    filling.clear();
    while (store.compact(1)) {
    }
    for (unsigned k = 0; k < 10 * kRead; ++k)
      filling.push_back(store.put({}, std::span(in).first(1 + random() % in.size())).value());
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_GT(store.statistics().moved_blobs, kRead / 2);
}

}  // namespace
}  // namespace pagetrap::compress
