// Checksums are those of the format, whichever functions of xxhash compute them, and a page with
// one byte that is not zero is not zero.
#define XXH_INLINE_ALL  // the test's own xxhash, for what every processor has
#include <gtest/gtest.h>
#include <xxhash.h>

#include <thread>
#include <vector>

#include "checkpoint/image/checksum.hpp"
#include "checkpoint/image/zero.hpp"
#include "support.hpp"

namespace pagetrap::checkpoint::test {
namespace {

// xxhash has a function of its own for each range up to 240 bytes, and stripes of 64 in blocks of
// 1024 above that.
std::vector<std::size_t> lengths() {
  std::vector<std::size_t> all;
  for (std::size_t length = 0; length <= 2200; ++length) all.push_back(length);
  for (const std::size_t length : {4095u, 4096u, 4097u, 12288u, 65537u, 1u << 21}) {
    all.push_back(length);
  }
  return all;
}

TEST(Checksum, IsXxh3) {
  const Bytes bytes = random_pages(513, 1);
  for (const std::size_t length : lengths()) {
    // Blocks in the writer are aligned; the compressed ones that a reader has need not be.
    for (const std::size_t offset : {0u, 1u, 32u}) {
      const auto part = std::span(bytes).subspan(offset, length);
      for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{0x8796a5b4c3d2e1f0}}) {
        SCOPED_TRACE(testing::Message() << length << " bytes, seed " << seed);
        ASSERT_EQ(checksum(part, seed), XXH3_64bits_withSeed(part.data(), length, seed));
        const XXH128_hash_t both = XXH3_128bits_withSeed(part.data(), length, seed);
        ASSERT_EQ(content_hash(part, seed), (ContentHash{both.low64, both.high64}));
      }
    }
  }
}

// The writer hashes raw blocks once for both purposes.
TEST(Checksum, IsTheLowHalfOfTheContentHash) {
  const Bytes bytes = random_pages(512, 2);
  for (const std::size_t length : lengths()) {
    if (length <= 240) continue;
    const auto part = std::span(bytes).first(length);
    ASSERT_EQ(content_hash(part, 12345).low, checksum(part, 12345)) << length << " bytes";
  }
}

TEST(Checksum, OfPiecesIsThatOfTheWhole) {
  const Bytes bytes = random_pages(16, 3);
  RunningChecksum running;
  std::size_t at = 0;
  for (const std::size_t length : {1u, 240u, 4096u, 64u, 10000u}) {
    running.add(std::span(bytes).subspan(at, length));
    at += length;
    EXPECT_EQ(running.value(), checksum(std::span(bytes).first(at)));
  }
}

TEST(ZeroPage, HasNoByteThatIsNotZero) {
  Bytes page(kPage);
  EXPECT_TRUE(is_zero(page));
  for (std::byte& byte : page) {
    for (const unsigned value : {1u, 128u, 255u}) {
      byte = std::byte{static_cast<unsigned char>(value)};
      ASSERT_FALSE(is_zero(page)) << &byte - page.data();
    }
    byte = std::byte{0};
  }
  EXPECT_FALSE(is_zero(Bytes(kPage, std::byte{7})));
}

}  // namespace
}  // namespace pagetrap::checkpoint::test
