// Images and their parents: the newest contents win, and what does not belong together is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <set>

#include "checkpoint/image/chain.hpp"
#include "support.hpp"

namespace pagetrap::checkpoint::test {
namespace {

void put(Bytes& region, std::uint64_t page, const Bytes& bytes) {
  std::copy(bytes.begin(), bytes.end(), region.begin() + static_cast<std::ptrdiff_t>(page * kPage));
}

int refusal(const std::string& path) {
  const auto chain = Chain::open(path);
  return chain ? 0 : chain.error().number;
}

TEST(Chain, NewestContentsWin) {
  const Folder folder;
  Bytes expected(32 * kPage);
  const auto image = [&](std::uint8_t number, const std::vector<Piece>& pieces) {
    for (const Piece& piece : pieces) put(expected, piece.first_page, piece.bytes);
    make_image(folder / std::to_string(number),
               one_region(32, number, static_cast<std::uint8_t>(number - 1)), pieces);
  };
  image(1, {{0, 0, written_pages(20, 1)}});
  image(2, {{0, 4, written_pages(4, 2)}, {0, 18, written_pages(6, 3)}});
  image(3, {{0, 6, Bytes(8 * kPage)}, {0, 30, written_pages(2, 4)}});  // zero again
  image(4, {{0, 8, written_pages(1, 5)}, {0, 0, written_pages(1, 6)}});
  EXPECT_EQ(load_all(folder / "4")[0], expected);

  const auto chain = Chain::open(folder / "4").value();
  EXPECT_EQ(chain->images(), 4u);
  EXPECT_EQ(chain->info().id, id_of(4));
  EXPECT_EQ(chain->image_info(3).id, id_of(1));
  EXPECT_EQ(inspect(folder / "3").value().zero_pages, 8u);
  // Sorted by their first page, and no page twice.
  std::set<std::uint64_t> pages;
  std::uint64_t last = 0;
  for (const ChainBlock& block : chain->blocks()) {
    const auto pieces = chain->pieces(block);
    ASSERT_FALSE(pieces.empty());
    EXPECT_GE(pieces[0].first_page, last);
    last = pieces[0].first_page;
    for (const ChainPiece& piece : pieces) {
      EXPECT_LE(piece.page_in_block + piece.pages, block.pages);
      for (std::uint32_t i = 0; i < piece.pages; ++i) {
        EXPECT_TRUE(pages.insert(piece.first_page + i).second);
      }
    }
  }
}

/// A region of a random history, with what it should contain.
struct History {
  std::vector<Bytes> regions;
  std::size_t images = 0;
};

/// Images 1 to `count` in `folder`: random runs, zeroes, duplicates; regions that grow, are added
/// and change places.
History random_history(const Folder& folder, std::uint64_t seed, std::uint8_t count) {
  std::mt19937_64 random(seed);
  const auto below = [&random](std::uint64_t n) { return random() % n; };
  std::vector<ImageRegion> regions{{"a", 0x10000000, 40 * kPage, 0},
                                   {"b", 0x20000000, 8 * kPage, 0}};
  std::vector<Bytes> contents{Bytes(40 * kPage), Bytes(8 * kPage)};
  for (std::uint8_t number = 1; number <= count; ++number) {
    if (number == 3) {
      regions.push_back({"c", 0x30000000, 16 * kPage, 0});
      contents.emplace_back(16 * kPage);
    }
    const std::size_t other = below(regions.size());
    std::swap(regions[0], regions[other]);
    std::swap(contents[0], contents[other]);
    regions[0].size_bytes += 4 * kPage;
    contents[0].resize(regions[0].size_bytes);

    ImageInfo info = one_region(1, number, static_cast<std::uint8_t>(number - 1),
                                static_cast<Compression>(below(3)));
    info.regions = regions;
    std::vector<Piece> pieces;
    for (std::uint32_t region = 0; region < regions.size(); ++region) {
      const std::size_t pages = contents[region].size() / kPage;
      for (std::uint64_t page = below(6); page < pages;) {
        const std::size_t length = std::min<std::size_t>(1 + below(5), pages - page);
        Bytes bytes = written_pages(length, below(20));
        if (below(3) == 0) std::fill_n(bytes.begin(), kPage, std::byte{0});
        if (below(6) == 0) std::fill(bytes.begin(), bytes.end(), std::byte{0});
        put(contents[region], page, bytes);
        pieces.push_back({region, page, std::move(bytes)});
        page += length + below(6);
      }
    }
    std::shuffle(pieces.begin(), pieces.end(), random);
    make_image(folder / std::to_string(number), info, pieces);
  }
  return {contents, count};
}

class Histories : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Seeds, Histories, testing::Range(1, 13));

TEST_P(Histories, MergeIsTheNewestState) {
  const Folder folder;
  const History history = random_history(folder, static_cast<std::uint64_t>(GetParam()), 7);
  const std::string newest = folder / std::to_string(history.images);
  EXPECT_EQ(load_all(newest), history.regions);
  EXPECT_TRUE(verify(newest));
  for (const unsigned threads : {1u, 3u}) {
    const std::string path = folder / ("merged" + std::to_string(threads));
    const auto sink = file_sink(path).value();
    const ImageInfo old = inspect(newest).value();
    const ImageInfo merged = merge(newest, *sink, Compression::lz4, {}, threads).value();
    EXPECT_FALSE(merged.incremental());
    EXPECT_NE(merged.id, old.id);
    EXPECT_EQ(merged.generation, old.generation);
    EXPECT_EQ(merged.created_ns, old.created_ns);
    EXPECT_EQ(load_all(path), history.regions);
    EXPECT_TRUE(verify(path));
  }
  for (std::size_t region = 0; region < history.regions.size(); ++region) {
    MemorySink sink;
    ASSERT_TRUE(extract(newest, inspect(newest).value().regions[region].name, sink));
    EXPECT_EQ(sink.bytes, history.regions[region]);
  }
}

TEST(Merge, KeepsDuplicatesOnce) {
  const Folder folder;
  const Bytes content = random_pages(8, 1);
  std::vector<Piece> pieces;
  for (std::uint64_t i = 0; i < 20; ++i) pieces.push_back({0, i * 10, content});
  make_image(folder / "1", one_region(200, 1), pieces);
  const auto sink = file_sink(folder / "2").value();
  const ImageInfo merged = merge(folder / "1", *sink, Compression::none).value();
  EXPECT_EQ(merged.blocks, 1u);
  EXPECT_EQ(merged.pages, 160u);
  EXPECT_EQ(load_all(folder / "1"), load_all(folder / "2"));
}

TEST(Merge, StopsWhenToldTo) {
  const Folder folder;
  make_image(folder / "1", one_region(64, 1), {{0, 0, written_pages(64, 1)}});
  MemorySink sink;
  const auto merged = merge(folder / "1", sink, Compression::none,
                            [](std::uint64_t, std::uint64_t) { return false; });
  ASSERT_FALSE(merged);
  EXPECT_EQ(merged.error().number, ECANCELED);
  EXPECT_TRUE(sink.abandoned);
  EXPECT_EQ(sink.committed, 0);
  const auto stop = [](std::uint64_t, std::uint64_t) { return false; };
  EXPECT_EQ(verify(folder / "1", stop).error().number, ECANCELED);
  MemorySink region;
  EXPECT_EQ(extract(folder / "1", "heap", region, stop).error().number, ECANCELED);
  EXPECT_TRUE(region.abandoned);
}

TEST(Merge, TellsItsProgress) {
  const Folder folder;
  make_image(folder / "1", one_region(64, 1), {{0, 0, written_pages(64, 1)}});
  std::uint64_t done = 0;
  std::uint64_t total = 0;
  MemorySink sink;
  ASSERT_TRUE(merge(folder / "1", sink, Compression::zstd,
                    [&](std::uint64_t done_bytes, std::uint64_t total_bytes) {
                      done = done_bytes;
                      total = total_bytes;
                      return true;
                    }));
  EXPECT_EQ(done, 64 * kPage);
  EXPECT_EQ(total, 64 * kPage);
}

TEST(Chain, FindsParentsWhateverTheirNames) {
  const Folder folder;
  make_image(folder / "zebra", one_region(8, 1), {{0, 0, written_pages(8, 1)}});
  make_image(folder / "apple", one_region(8, 2, 1), {{0, 0, written_pages(1, 2)}});
  write_file(folder / "not an image", written_pages(1, 3));
  write_file(folder / "empty", {});
  std::filesystem::create_directory(folder / "folder");
  std::filesystem::create_symlink("missing", folder / "dangling");
  // A damaged copy of the parent does no harm as long as there is a good one.
  Bytes copy = read_file(folder / "zebra");
  copy[kPage - 1] = std::byte{1};
  write_file(folder / "copy", copy);
  EXPECT_EQ(Chain::open(folder / "apple").value()->images(), 2u);
  std::filesystem::remove(folder / "zebra");
  EXPECT_EQ(refusal(folder / "apple"), EBADMSG);
  EXPECT_THAT(describe(verify(folder / "apple").error()), testing::HasSubstr("a parent"));
  std::filesystem::remove(folder / "copy");
  EXPECT_EQ(refusal(folder / "apple"), ENOENT);
  EXPECT_TRUE(inspect(folder / "apple"));  // needs no parent
  EXPECT_EQ(verify(folder / "apple").error().number, ENOENT);
  // No directory in the name: the current one.
  const auto before = std::filesystem::current_path();
  make_image(folder / "zebra", one_region(8, 1), {{0, 0, written_pages(8, 1)}});
  std::filesystem::current_path(folder.path());
  EXPECT_EQ(refusal("apple"), 0);
  std::filesystem::current_path(before);
}

TEST(Chain, RefusesACycle) {
  const Folder folder;
  make_image(folder / "1", one_region(8, 1, 3), {{0, 0, written_pages(1, 1)}});
  make_image(folder / "2", one_region(8, 2, 1), {});
  make_image(folder / "3", one_region(8, 3, 2), {});
  EXPECT_EQ(refusal(folder / "3"), EBADMSG);
  EXPECT_THAT(describe(Chain::open(folder / "3").error()), testing::HasSubstr("own ancestors"));
}

TEST(Chain, RefusesAParentThatContradictsItsChild) {
  const Folder folder;
  make_image(folder / "1", one_region(8, 1), {{0, 0, written_pages(1, 1)}});
  const auto with_child = [&folder](auto change) {
    ImageInfo info = one_region(8, 2, 1);
    change(info);
    make_image(folder / "2", info, {});
    return refusal(folder / "2");
  };
  EXPECT_EQ(with_child([](ImageInfo&) {}), 0);
  EXPECT_EQ(with_child([](ImageInfo& info) { info.regions[0].size_bytes += kPage; }), 0);
  EXPECT_EQ(with_child([](ImageInfo& info) { info.regions[0].size_bytes -= kPage; }), EBADMSG);
  EXPECT_EQ(with_child([](ImageInfo& info) { info.regions[0].base += kPage; }), EBADMSG);
  EXPECT_EQ(with_child([](ImageInfo& info) { info.regions[0].name = "pile"; }), EBADMSG);
  EXPECT_EQ(with_child([](ImageInfo& info) { info.regions.clear(); }), EBADMSG);
  EXPECT_EQ(with_child([](ImageInfo& info) { info.page_size = 8192; }), EBADMSG);
}

TEST(Chain, RefusesWhatIsNoFile) {
  const Folder folder;
  EXPECT_EQ(refusal(folder / "missing"), ENOENT);
  EXPECT_EQ(refusal(folder.path().string()), EISDIR);
  EXPECT_EQ(refusal("/dev/null"), EINVAL);
}

}  // namespace
}  // namespace pagetrap::checkpoint::test
