// Slab and BlobStore: one thread's view.
#include <cerrno>

#include "compress/pool/blob_store.hpp"
#include "compress/support.hpp"
#include "sys/injection.hpp"

namespace pagetrap::compress {
namespace {

Bytes blob_of(std::size_t length, std::uint64_t seed) { return random_bytes(length, seed); }

class Pool : public testing::Test {
 protected:
  Slab make(std::size_t capacity = 16_MiB) { return Slab::create(capacity, budget_).value(); }
  Bytes get(Slab& slab, std::uint32_t blob) {
    Bytes out(2 * page_size());
    out.resize(slab.get(blob, out).length);
    return out;
  }
  Budget budget_{8_MiB};
};

TEST_F(Pool, KeepsBlobsOfEveryLength) {
  Slab slab = make();
  std::vector<std::uint32_t> blobs;
  for (std::size_t length = 1; length <= page_size() + 4; length += length < 300 ? 1 : 37) {
    const Bytes blob = blob_of(length, length);
    const std::size_t head = length % 5;
    blobs.push_back(slab.put(std::span(blob).first(std::min(head, length)),
                             std::span(blob).subspan(std::min(head, length)))
                        .value());
  }
  std::size_t at = 0;
  for (std::size_t length = 1; length <= page_size() + 4; length += length < 300 ? 1 : 37)
    ASSERT_EQ(get(slab, blobs[at++]), blob_of(length, length)) << length;
  EXPECT_EQ(slab.statistics().blobs, blobs.size());
  for (const std::uint32_t blob : blobs) ASSERT_GT(slab.release(blob).length, 0U);
  EXPECT_EQ(slab.statistics().blobs, 0U);
  EXPECT_EQ(slab.statistics().blob_bytes, 0U);
  // One spare segment, and the tables.
  EXPECT_LT(slab.statistics().held_bytes, Segment::size_bytes() + 64_KiB);
}

TEST_F(Pool, KnowsWhatIsNotThere) {
  Slab slab = make();
  Bytes out(2 * page_size());
  EXPECT_EQ(slab.get(0, out).length, 0U);
  const std::uint32_t blob = slab.put({}, blob_of(10, 1)).value();
  EXPECT_EQ(slab.get(blob + 1, out).length, 0U);
  EXPECT_EQ(slab.get(~0U, out).length, 0U);
  EXPECT_GT(slab.release(blob).length, 0U);
  EXPECT_EQ(slab.release(blob).length, 0U);
  EXPECT_EQ(slab.get(blob, out).length, 0U);
  EXPECT_EQ(slab.put({}, {}).error().number, EINVAL);
  EXPECT_EQ(slab.put({}, blob_of(2 * page_size() + 1, 1)).error().number, EINVAL);
}

TEST_F(Pool, HoldsNoMoreThanItsBudgetAndSaysSo) {
  Slab slab = make();
  std::vector<std::uint32_t> blobs;
  for (;;) {
    const auto blob = slab.put({}, blob_of(1500 + blobs.size() % 700, blobs.size()));
    ASSERT_LE(budget_.used(), budget_.limit());
    if (!blob) {
      EXPECT_EQ(blob.error().number, ENOMEM);
      break;
    }
    blobs.push_back(*blob);
  }
  EXPECT_GT(static_cast<double>(slab.statistics().blob_bytes), 0.93 * 8_MiB);
  for (std::size_t i = 0; i < blobs.size(); ++i)
    ASSERT_EQ(get(slab, blobs[i]), blob_of(1500 + i % 700, i));
  // With some of the budget back there is room again, wherever the holes are.
  for (std::size_t i = 0; i < blobs.size(); i += 10) slab.release(blobs[i]);
  std::size_t more = 0;
  while (slab.put({}, blob_of(2000, more))) ++more;
  EXPECT_GT(more, blobs.size() / 10 * 8 / 10);
  // A smaller budget than what is used: nothing more, and nothing breaks.
  budget_.set_limit(1_MiB);
  const std::size_t held = budget_.used();
  while (slab.put({}, blob_of(page_size(), 1))) {
  }
  EXPECT_LE(budget_.used(), held);
  budget_.set_limit(9_MiB);
  EXPECT_TRUE(slab.put({}, blob_of(page_size(), 1)));
}

TEST_F(Pool, RunsOutOfAddresses) {
  Slab slab = make(256_KiB);
  std::size_t count = 0;
  Result<std::uint32_t> last = std::uint32_t{0};
  while ((last = slab.put({}, blob_of(page_size(), count)))) ++count;
  EXPECT_EQ(last.error().number, ENOMEM);
  EXPECT_GE(count, 62U);  // of 64: in two pieces, where need be
  // Of ids: by the smallest blobs there are.
  Slab small = make(64_KiB);
  std::vector<std::uint32_t> blobs;
  while ((last = small.put({}, blob_of(1, 1)))) blobs.push_back(*last);
  EXPECT_EQ(last.error().number, ENOMEM);
  EXPECT_GT(blobs.size(), 1000U);
  for (const std::uint32_t blob : blobs) ASSERT_EQ(get(small, blob), blob_of(1, 1));
}

TEST_F(Pool, GivesItsBudgetBack) {
  {
    Slab slab = make();
    for (unsigned i = 0; i < 500; ++i) ASSERT_TRUE(slab.put({}, blob_of(3000, i)));
    EXPECT_GT(budget_.used(), 1'500'000U);
  }
  EXPECT_EQ(budget_.used(), 0U);
}

TEST_F(Pool, CompactsWhatHasShrunk) {
  Slab slab = make();
  std::vector<std::uint32_t> blobs;
  for (unsigned i = 0; i < 3000; ++i)
    blobs.push_back(slab.put({}, blob_of(500 + i % 1900, i)).value());
  for (unsigned i = 0; i < 3000; ++i)
    if (i % 5 != 0) slab.release(blobs[i]);
  const SlabStatistics before = slab.statistics();
  EXPECT_GT(before.held_bytes, before.blob_bytes * 2);
  unsigned calls = 0;
  while (slab.compact(8)) ++calls;
  const SlabStatistics after = slab.statistics();
  EXPECT_LT(static_cast<double>(after.held_bytes),
            1.04 * static_cast<double>(after.blob_bytes) + static_cast<double>(96_KiB));
  EXPECT_EQ(after.blobs, before.blobs);
  EXPECT_GT(after.moved_blobs, 100U);
  EXPECT_GT(calls, 10U);
  for (unsigned i = 0; i < 3000; i += 5) ASSERT_EQ(get(slab, blobs[i]), blob_of(500 + i % 1900, i));
}

TEST_F(Pool, MemoryThatCannotBeGivenBackIsUsedAgain) {
  Slab slab = make();
  std::vector<std::uint32_t> blobs;
  for (unsigned i = 0; i < 100; ++i) blobs.push_back(slab.put({}, blob_of(4000, i)).value());
  const std::size_t held = slab.statistics().held_bytes;
  sys::inject(sys::Call::madvise, EINVAL, 0, 1000);
  for (const std::uint32_t blob : blobs) slab.release(blob);
  sys::inject(sys::Call::none, 0);
  EXPECT_EQ(slab.statistics().held_bytes, held);
  for (unsigned i = 0; i < 100; ++i) blobs[i] = slab.put({}, blob_of(4000, i)).value();
  EXPECT_EQ(slab.statistics().held_bytes, held);
  for (unsigned i = 0; i < 100; ++i) ASSERT_EQ(get(slab, blobs[i]), blob_of(4000, i));
}

TEST_F(Pool, ShardsShareTheBudget) {
  BlobStore store(budget_);
  ASSERT_TRUE(store.open(8_MiB, 3));
  std::vector<BlobId> blobs;
  Bytes out(2 * page_size());
  for (;;) {
    const auto blob = store.put({}, blob_of(2500, blobs.size()));
    if (!blob) break;
    blobs.push_back(*blob);
  }
  EXPECT_GT(blobs.size() * 2500, 8_MiB * 9 / 10);
  for (std::size_t i = 0; i < blobs.size(); ++i) {
    ASSERT_EQ(store.get(blobs[i], out).value(), 2500U);
    ASSERT_TRUE(std::ranges::equal(std::span(out).first(2500), blob_of(2500, i)));
  }
  EXPECT_EQ(store.spill(blobs[0], out).error().number, ENOTSUP);
  for (const BlobId blob : blobs) ASSERT_FALSE(store.release(blob).value());
  EXPECT_EQ(store.release(blobs[0]).error().number, ENOENT);
  EXPECT_EQ(store.get(blobs[0], out).error().number, ENOENT);
  EXPECT_EQ(BlobStore(budget_).open(1_MiB, 9).error().number, EINVAL);
}

}  // namespace
}  // namespace pagetrap::compress
