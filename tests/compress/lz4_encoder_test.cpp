// Blocks of our encoder, expanded by LZ4 itself.
#include "compress/codecs/lz4_encoder.hpp"

#include <lz4.h>

#include <array>

#include "compress/support.hpp"

namespace pagetrap::compress {
namespace {

void expect_round_trip(const Lz4Encoder& encoder, const Bytes& dictionary, const Bytes& page) {
  alignas(2) std::array<std::byte, Lz4Encoder::kScratch> scratch;
  Bytes out(page.size() + page.size() / 200 + 32);
  out.resize(encoder.encode(page, out, scratch));
  ASSERT_GT(out.size(), 0U);
  Bytes back(page.size());
  ASSERT_EQ(
      LZ4_decompress_safe_usingDict(
          reinterpret_cast<const char*>(out.data()), reinterpret_cast<char*>(back.data()),
          static_cast<int>(out.size()), static_cast<int>(back.size()),
          reinterpret_cast<const char*>(dictionary.data()), static_cast<int>(dictionary.size())),
      static_cast<int>(page.size()));
  ASSERT_EQ(back, page);
  // Never a byte too many: into every shorter room it does not fit, or is the same block.
  for (std::size_t room = out.size(); room-- > 0; room -= std::min<std::size_t>(room, 17)) {
    Bytes small(room + 1, std::byte{0x5a});
    const std::size_t made = encoder.encode(page, std::span(small).first(room), scratch);
    ASSERT_LE(made, room);
    ASSERT_EQ(small.back(), std::byte{0x5a});
  }
}

TEST(Encoder, MakesBlocksThatLz4Expands) {
  const Bytes text = text_pages(40);
  std::mt19937 random(1);
  for (const std::size_t size : {0U, 3U, 4U, 100U, 10'000U, 61'439U}) {
    const Bytes dictionary(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size));
    const auto encoder = Lz4Encoder::create(dictionary).value();
    for (std::size_t length = 0; length < 40; ++length)
      expect_round_trip(
          encoder, dictionary,
          Bytes(text.end() - 100, text.end() - 100 + static_cast<std::ptrdiff_t>(length)));
    expect_round_trip(encoder, dictionary, Bytes(page_size()));
    expect_round_trip(encoder, dictionary, random_bytes(page_size(), 1));
    for (unsigned i = 0; i < 60; ++i) {
      // Pieces of the dictionary, of earlier pieces, and noise.
      Bytes page;
      while (page.size() < page_size()) {
        const std::size_t from = random() % text.size();
        const std::size_t count = std::min<std::size_t>(1 + random() % 300, text.size() - from);
        const auto begin = text.begin() + static_cast<std::ptrdiff_t>(from % (size + 1000));
        if (random() % 4 != 0) {
          page.insert(page.end(), begin, begin + static_cast<std::ptrdiff_t>(count));
        } else {
          const Bytes noise = random_bytes(count, random());
          page.insert(page.end(), noise.begin(), noise.end());
        }
      }
      page.resize(page_size());
      expect_round_trip(encoder, dictionary, page);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace pagetrap::compress
