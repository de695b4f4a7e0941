// What is written is read back: every encoding, zero and duplicate pages, several threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <random>
#include <thread>

#include "checkpoint/image/chain.hpp"
#include "support.hpp"

namespace pagetrap::checkpoint::test {
namespace {

Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const Bytes& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

class RoundTrip : public testing::TestWithParam<Compression> {
 protected:
  Folder folder_;
  std::string path_ = folder_ / "image";
};

INSTANTIATE_TEST_SUITE_P(All, RoundTrip,
                         testing::Values(Compression::none, Compression::lz4, Compression::zstd),
                         [](const auto& each) { return name(each.param); });

TEST_P(RoundTrip, KeepsContentsAndDescription) {
  ImageInfo info = one_region(64, 1, 0, GetParam());
  info.regions.push_back({"", 0x40000000, 3 * kPage, 0});
  info.regions.push_back({std::string(255, 'x'), 0, 0, 0});
  const Bytes heap = joined({Bytes(5 * kPage), written_pages(10, 1), Bytes(kPage),
                             random_pages(16, 2), Bytes(32 * kPage)});
  const Bytes other = written_pages(3, 3);
  const ImageInfo made = make_image(path_, info, {{1, 0, other}, {0, 0, heap}});

  for (const ImageInfo& read : {made, inspect(path_).value(), verify(path_).value()}) {
    EXPECT_EQ(read.version, 1u);
    EXPECT_EQ(read.page_size, kPage);
    EXPECT_EQ(read.id, info.id);
    EXPECT_FALSE(read.incremental());
    EXPECT_EQ(read.generation, 1u);
    EXPECT_EQ(read.created_ns, info.created_ns);
    EXPECT_EQ(read.compression, GetParam());
    EXPECT_EQ(read.pages, 29u);
    EXPECT_EQ(read.zero_pages, 38u);
    EXPECT_EQ(read.blocks, 2u);
    EXPECT_EQ(read.stored_bytes, made.stored_bytes);
    EXPECT_EQ(read.file_bytes, std::filesystem::file_size(path_));
    ASSERT_EQ(read.regions.size(), 3u);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(read.regions[i].name, info.regions[i].name);
      EXPECT_EQ(read.regions[i].base, info.regions[i].base);
      EXPECT_EQ(read.regions[i].size_bytes, info.regions[i].size_bytes);
      EXPECT_EQ(read.regions[i].root, info.regions[i].root);
    }
  }
  EXPECT_THAT(load_all(path_), testing::ElementsAre(heap, other, Bytes{}));
  if (GetParam() == Compression::none) {
    EXPECT_EQ(made.stored_bytes, 29 * kPage);
  } else {
    EXPECT_LT(made.stored_bytes, 25 * kPage);
  }
}

TEST_P(RoundTrip, StoresEqualBlocksOnce) {
  const Bytes content = random_pages(4, 7);
  const Bytes with_holes = joined({Bytes(kPage), content, Bytes(2 * kPage)});
  const ImageInfo made = make_image(path_, one_region(64, 1, 0, GetParam()),
                                    {{0, 0, content}, {0, 32, content}, {0, 40, with_holes}});
  EXPECT_EQ(made.blocks, 1u);
  EXPECT_EQ(made.pages, 12u);
  const Bytes heap = load_all(path_)[0];
  for (const std::size_t page : {0u, 32u, 41u}) {
    EXPECT_TRUE(std::equal(content.begin(), content.end(),
                           heap.begin() + static_cast<std::ptrdiff_t>(page * kPage)));
  }
}

TEST_P(RoundTrip, TakesScatteredPagesInOneBlock) {
  const auto sink = file_sink(path_).value();
  const auto writer = ImageWriter::begin(*sink, one_region(1000, 1, 0, GetParam())).value();
  std::vector<BlockRun> runs;
  for (std::uint64_t page = 0; page < 1000; page += 3) runs.push_back({0, 1, page});
  const Bytes bytes = written_pages(runs.size(), 5);
  ASSERT_TRUE(writer->add(runs, bytes));
  const ImageInfo made = writer->finish().value();
  ASSERT_TRUE(sink->commit());
  EXPECT_EQ(made.blocks, 1u);
  const Bytes heap = load_all(path_)[0];
  for (std::size_t page = 0; page < 1000; ++page) {
    const std::byte* const found = heap.data() + page * kPage;
    const Bytes zero(kPage);
    const std::byte* const expected = page % 3 == 0 ? bytes.data() + page / 3 * kPage : zero.data();
    ASSERT_EQ(std::memcmp(found, expected, kPage), 0) << page;
  }
}

TEST_P(RoundTrip, TakesBlocksFromSeveralThreads) {
  constexpr std::size_t kBlocks = 200;
  constexpr std::size_t kEach = 8;
  const auto content = [](std::size_t block) {
    return block % 5 == 4 ? Bytes(kEach * kPage) : written_pages(kEach, block % 50);
  };
  const auto sink = file_sink(path_).value();
  const auto writer =
      ImageWriter::begin(*sink, one_region(kBlocks * kEach, 1, 0, GetParam())).value();
  std::atomic<std::size_t> next{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (std::size_t block; (block = next++) < kBlocks;) {
        const BlockRun run{0, kEach, block * kEach};
        EXPECT_TRUE(writer->add({&run, 1}, content(block)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const ImageInfo made = writer->finish().value();
  ASSERT_TRUE(sink->commit());
  EXPECT_EQ(made.blocks, 40u);  // the others are equal to one of these, or zero
  EXPECT_EQ(writer->counts().pages_duplicate, 120 * kEach);
  EXPECT_EQ(writer->counts().pages_zero, 40 * kEach);
  EXPECT_EQ(writer->counts().bytes, made.file_bytes);
  const Bytes heap = load_all(path_)[0];
  for (std::size_t block = 0; block < kBlocks; ++block) {
    const Bytes expected = content(block);
    ASSERT_TRUE(std::equal(expected.begin(), expected.end(),
                           heap.begin() + static_cast<std::ptrdiff_t>(block * kEach * kPage)));
  }
}

TEST_P(RoundTrip, TakesLargePages) {
  ImageInfo info = one_region(1, 1, 0, GetParam());
  info.page_size = 65536;
  info.regions[0].size_bytes = 4 * 65536;
  Bytes bytes = written_pages(64, 1);
  std::fill_n(bytes.begin() + 65536, 65536, std::byte{0});
  make_image(path_, info, {{0, 0, bytes}});
  EXPECT_EQ(verify(path_).value().pages, 3u);
  EXPECT_EQ(load_all(path_)[0], bytes);
}

TEST_P(RoundTrip, AnImageMayBeEmpty) {
  make_image(path_, one_region(8, 1, 0, GetParam()), {});
  EXPECT_EQ(verify(path_).value().zero_pages, 8u);
  EXPECT_EQ(load_all(path_)[0], Bytes(8 * kPage));
  ImageInfo none = one_region(8, 2);
  none.regions.clear();
  make_image(path_, none, {});
  EXPECT_TRUE(verify(path_));
}

TEST_P(RoundTrip, ExtractWritesARegionWithHoles) {
  ImageInfo info = one_region(1024, 1, 0, GetParam());
  info.regions.insert(info.regions.begin(), {"first", 0, kPage, 0});
  const Bytes content = written_pages(6, 1);
  make_image(path_, info, {{1, 300, content}, {1, 2, content}, {0, 0, written_pages(1, 2)}});
  const std::string out = folder_ / "region";
  ASSERT_TRUE(extract(path_, "heap", *file_sink(out).value()));
  Bytes expected(1024 * kPage);
  std::copy(content.begin(), content.end(), expected.begin() + 300 * kPage);
  std::copy(content.begin(), content.end(), expected.begin() + 2 * kPage);
  EXPECT_EQ(read_file(out), expected);

  MemorySink memory;
  ASSERT_TRUE(extract(path_, "heap", memory));
  EXPECT_EQ(memory.bytes, expected);
  EXPECT_EQ(memory.committed, 1);

  MemorySink refused;
  const auto unknown = extract(path_, "stack", refused);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().number, EINVAL);
  EXPECT_TRUE(refused.abandoned);
  EXPECT_EQ(refused.committed, 0);
}

TEST(ImageWriter, PutsRawBlocksWhereTheyCanBeMapped) {
  const Folder folder;
  const Bytes first = written_pages(3, 1);
  make_image(folder / "raw", one_region(64, 1), {{0, 0, first}, {0, 8, written_pages(2, 2)}});
  const auto chain = Chain::open(folder / "raw").value();
  const Bytes file = read_file(folder / "raw");
  for (const ChainBlock& block : chain->blocks()) {
    const std::int64_t offset = chain->mappable_offset(block);
    ASSERT_GT(offset, 0);
    ASSERT_EQ(offset % static_cast<std::int64_t>(kPage), 0);
  }
  EXPECT_EQ(std::memcmp(file.data() + chain->mappable_offset(chain->blocks()[0]), first.data(),
                        first.size()),
            0);
  make_image(folder / "lz4", one_region(64, 1, 0, Compression::lz4), {{0, 0, first}});
  const auto compressed = Chain::open(folder / "lz4").value();
  EXPECT_EQ(compressed->mappable_offset(compressed->blocks()[0]), -1);
}

TEST(ImageWriter, RefusesWhatMakesNoSense) {
  MemorySink sink;
  const auto writer = ImageWriter::begin(sink, one_region(1024, 1)).value();
  const Bytes bytes = written_pages(513, 1);
  const auto add = [&](std::vector<BlockRun> runs, std::size_t pages) {
    const auto added = writer->add(runs, std::span(bytes).first(pages * kPage));
    return added ? 0 : added.error().number;
  };
  EXPECT_EQ(add({{1, 1, 0}}, 1), EINVAL);      // no such region
  EXPECT_EQ(add({{0, 1, 1024}}, 1), EINVAL);   // behind its end
  EXPECT_EQ(add({{0, 2, 1023}}, 2), EINVAL);   // partly
  EXPECT_EQ(add({{0, 1, ~0ull}}, 1), EINVAL);  // overflows
  EXPECT_EQ(add({{0, 0, 0}}, 0), EINVAL);      // empty
  EXPECT_EQ(add({{0, 2, 0}}, 1), EINVAL);      // fewer bytes
  EXPECT_EQ(add({{0, 513, 0}}, 513), EINVAL);
  EXPECT_EQ(add({{0, 512, 0}}, 512), 0);  // and none of that was the end
  EXPECT_EQ(add({{0, 2, 511}}, 2), 0);    // page 511 again
  const auto finished = writer->finish();
  ASSERT_FALSE(finished);
  EXPECT_EQ(finished.error().number, EINVAL);
  EXPECT_EQ(add({{0, 1, 600}}, 1), EINVAL);  // after finish()

  const auto begin = [&sink](auto change) {
    ImageInfo info = one_region(4, 1);
    change(info);
    const auto begun = ImageWriter::begin(sink, info);
    return begun ? 0 : begun.error().number;
  };
  EXPECT_EQ(begin([](ImageInfo&) {}), 0);
  EXPECT_EQ(begin([](ImageInfo& info) { info.page_size = 5000; }), EINVAL);
  EXPECT_EQ(begin([](ImageInfo& info) { info.page_size = 2048; }), EINVAL);
  EXPECT_EQ(begin([](ImageInfo& info) { info.id = ImageId{}; }), EINVAL);
  EXPECT_EQ(begin([](ImageInfo& info) { info.parent = info.id; }), EINVAL);
  EXPECT_EQ(begin([](ImageInfo& info) { info.regions[0].size_bytes += 8; }), EINVAL);
  EXPECT_EQ(begin([](ImageInfo& info) { info.regions[0].base = 0 - kPage; }), EINVAL);
  EXPECT_EQ(begin([](ImageInfo& info) { info.regions[0].name.assign(256, 'x'); }), EINVAL);
  EXPECT_EQ(begin([](ImageInfo& info) { info.regions.push_back(info.regions[0]); }), EINVAL);
  EXPECT_EQ(begin([](ImageInfo& info) { info.regions.resize(65537); }), EINVAL);
}

}  // namespace
}  // namespace pagetrap::checkpoint::test
