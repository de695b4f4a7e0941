// Blobs in a file, and files that refuse.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compress/pool/blob_store.hpp"
#include "compress/support.hpp"
#include "sys/injection.hpp"

namespace pagetrap::compress {
namespace {

class Spill : public testing::Test {
 protected:
  void SetUp() override {
    auto file = unnamed_file("/tmp").value();
    descriptor_ = file.get();
    ASSERT_TRUE(store_.open(8_MiB, 1));
    ASSERT_TRUE(store_.open_spill(std::move(file), 1_MiB));
  }
  BlobId put(std::size_t length, std::uint64_t seed) {
    return store_.put({}, random_bytes(length, seed)).value();
  }
  void expect(BlobId blob, std::size_t length, std::uint64_t seed) {
    const auto found = store_.get(blob, out_);
    ASSERT_TRUE(found) << describe(found.error());
    ASSERT_EQ(*found, length);
    ASSERT_TRUE(std::ranges::equal(std::span(out_).first(length), random_bytes(length, seed)));
  }
  [[nodiscard]] std::size_t blocks() const {
    struct stat status {};
    EXPECT_EQ(::fstat(descriptor_, &status), 0);
    return static_cast<std::size_t>(status.st_blocks) * 512;
  }

  Budget budget_{8_MiB};
  BlobStore store_{budget_};
  Bytes out_ = Bytes(2 * page_size());
  int descriptor_ = -1;
};

TEST_F(Spill, HandlesStayGood) {
  std::vector<BlobId> blobs;
  for (std::size_t length = 1; length <= page_size() + 4; length += 97)
    blobs.push_back(put(length, length));
  for (const BlobId blob : blobs) ASSERT_TRUE(store_.spill(blob, out_));
  EXPECT_EQ(store_.statistics().blobs, 0U);
  EXPECT_GT(store_.file_bytes(), 0U);
  std::size_t at = 0;
  for (std::size_t length = 1; length <= page_size() + 4; length += 97)
    expect(blobs[at++], length, length);
  EXPECT_EQ(store_.spill(blobs[0], out_).error().number, EALREADY);
  for (const BlobId blob : blobs) EXPECT_TRUE(store_.release(blob).value());
  EXPECT_EQ(store_.release(blobs[0]).error().number, ENOENT);
  EXPECT_EQ(store_.spill(blobs[0], out_).error().number, ENOENT);
  EXPECT_EQ(store_.file_bytes(), 0U);
  EXPECT_EQ(blocks(), 0U) << "holes were not punched";
}

TEST_F(Spill, StopsAtItsLimitAndLosesNothing) {
  std::vector<BlobId> blobs;
  for (unsigned i = 0; i < 400; ++i) blobs.push_back(put(3000 + i, i));
  std::size_t spilled = 0;
  Result<Done> last = Done{};
  while ((last = store_.spill(blobs[spilled], out_))) ++spilled;
  EXPECT_EQ(last.error().number, ENOSPC);
  EXPECT_GT(spilled, 200U);
  EXPECT_LE(store_.file_bytes(), 1_MiB);
  for (unsigned i = 0; i < 400; ++i) expect(blobs[i], 3000 + i, i);
  // Room again, for blobs of another length, when whole chunks are free.
  for (unsigned i = 0; i < spilled; ++i) ASSERT_TRUE(store_.release(blobs[i]).value());
  const BlobId small = put(100, 7);
  ASSERT_TRUE(store_.spill(small, out_));
  expect(small, 100, 7);
}

TEST_F(Spill, LeavesABlobWhereItWasWhenTheFileRefuses) {
  const BlobId blob = put(2000, 1);
  for (const int number : {ENOSPC, EIO, EDQUOT}) {
    sys::inject(sys::Call::pwrite, number);
    const auto refused = store_.spill(blob, out_);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().number, number);
    EXPECT_EQ(store_.file_bytes(), 0U);
    expect(blob, 2000, 1);
  }
  ASSERT_TRUE(store_.spill(blob, out_));
  sys::inject(sys::Call::pread, EIO);
  EXPECT_EQ(store_.get(blob, out_).error().number, EIO);
  expect(blob, 2000, 1);
  sys::inject(sys::Call::none, 0);
}

TEST_F(Spill, FindsAFileThatWasCut) {
  const BlobId blob = put(2000, 1);
  ASSERT_TRUE(store_.spill(blob, out_));
  ASSERT_EQ(::ftruncate(descriptor_, 100), 0);
  EXPECT_EQ(store_.get(blob, out_).error().number, EIO);
}

TEST(SpillFiles, AreRefusedBeforeAnythingIsSpilled) {
  Budget budget(1_MiB);
  BlobStore store(budget);
  ASSERT_TRUE(store.open(1_MiB, 1));
  EXPECT_EQ(store.open_spill(unnamed_file("/tmp").value(), 1000).error().number, EINVAL);
  EXPECT_EQ(unnamed_file("/nowhere").error().number, ENOENT);
  // A real disk that is full.
  ASSERT_TRUE(store.open_spill(sys::Descriptor(::open("/dev/full", O_RDWR | O_CLOEXEC)), 1_MiB));
  Bytes out(2 * page_size());
  const BlobId blob = store.put({}, random_bytes(1000, 1)).value();
  EXPECT_EQ(store.spill(blob, out).error().number, ENOSPC);
  EXPECT_EQ(store.get(blob, out).value(), 1000U);
}

}  // namespace
}  // namespace pagetrap::compress
