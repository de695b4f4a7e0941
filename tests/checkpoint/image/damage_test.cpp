// Every damage is found before anything of the image is used: each flipped byte, each length that
// a file can be cut to, and nonsense with checksums that agree.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>

#include "checkpoint/image/chain.hpp"
#include "checkpoint/image/layout.hpp"
#include "forge.hpp"
#include "support.hpp"
#include "sys/fd.hpp"

namespace pagetrap::checkpoint::test {
namespace {

/// Whether opening the image or loading any of its blocks fails, as a program that restores does.
bool is_refused(const std::string& path) {
  const auto opened = Chain::open(path);
  if (!opened) return true;
  Bytes pages;
  Bytes scratch;
  for (const ChainBlock& block : (*opened)->blocks()) {
    pages.resize(std::size_t{block.pages} * (*opened)->info().page_size);
    if (!(*opened)->load(block, pages, scratch)) return true;
  }
  return false;
}

void put_byte(const std::string& path, std::size_t at, std::byte value) {
  const sys::Descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_EQ(::pwrite(file.get(), &value, 1, static_cast<off_t>(at)), 1);
}

/// Small, with all that an image can have.
Bytes small_image(const Folder& folder, Compression compression, std::uint8_t parent = 0) {
  ImageInfo info = one_region(16, 9, parent, compression);
  info.regions.push_back({"other", 0x20000000, 4 * kPage, 0});
  Bytes holed = written_pages(3, 2);
  std::fill_n(holed.begin() + kPage, kPage, std::byte{0});
  make_image(folder / "image", info,
             {{0, 2, written_pages(2, 1)}, {0, 8, holed}, {1, 1, written_pages(2, 1)}});
  return read_file(folder / "image");
}

class Damage : public testing::TestWithParam<Compression> {
 protected:
  Folder folder_;
  std::string path_ = folder_ / "damaged";
};

INSTANTIATE_TEST_SUITE_P(All, Damage,
                         testing::Values(Compression::none, Compression::lz4, Compression::zstd),
                         [](const auto& each) { return name(each.param); });

TEST_P(Damage, OfAnySingleByteIsFound) {
  const Bytes good = small_image(folder_, GetParam());
  write_file(path_, good);
  ASSERT_TRUE(verify(path_));
  ASSERT_FALSE(is_refused(path_));
  for (std::size_t at = 0; at < good.size(); ++at) {
    // Every byte in some bit, and each bit somewhere.
    put_byte(path_, at, good[at] ^ std::byte{static_cast<unsigned char>(1u << at % 8)});
    const auto verified = verify(path_);
    ASSERT_FALSE(verified) << "byte " << at;
    ASSERT_TRUE(verified.error().number == EBADMSG || verified.error().number == ENOTSUP) << at;
    ASSERT_GE(verified.error().position, 0) << at;
    ASSERT_TRUE(is_refused(path_)) << "byte " << at;
    put_byte(path_, at, good[at]);
  }
}

TEST_P(Damage, OfAParentIsFound) {
  make_image(folder_ / "child", one_region(16, 2, 1), {});
  make_image(folder_ / "parent", one_region(16, 1, 0, GetParam()), {{0, 0, written_pages(2, 1)}});
  const Bytes good = read_file(folder_ / "parent");
  ASSERT_TRUE(verify(folder_ / "child"));
  for (std::size_t at = 0; at < good.size(); at += at < 300 ? 1 : 7) {
    Bytes bad = good;
    bad[at] ^= std::byte{0x10};
    write_file(folder_ / "parent", bad);
    ASSERT_FALSE(verify(folder_ / "child")) << "byte " << at;
    ASSERT_TRUE(is_refused(folder_ / "child")) << "byte " << at;
  }
}

TEST_P(Damage, ByCuttingOrAddingIsFound) {
  const Bytes good = small_image(folder_, GetParam());
  write_file(path_, good);
  for (std::size_t length = good.size(); length-- > 0;) {
    ASSERT_EQ(::truncate(path_.c_str(), static_cast<off_t>(length)), 0);
    const auto verified = verify(path_);
    ASSERT_FALSE(verified) << "length " << length;
    ASSERT_EQ(verified.error().number, EBADMSG) << "length " << length;
    ASSERT_TRUE(is_refused(path_)) << "length " << length;
    ASSERT_FALSE(inspect(path_)) << "length " << length;
  }
  for (const std::ptrdiff_t more : {1, 63, 64, 4096}) {
    Bytes longer = good;
    longer.resize(good.size() + static_cast<std::size_t>(more));
    write_file(path_, longer);
    EXPECT_FALSE(inspect(path_)) << more;
    // Also when what was added looks like the end.
    std::copy(good.end() - 64, good.end(), longer.end() - std::min<std::ptrdiff_t>(64, more));
    write_file(path_, longer);
    EXPECT_FALSE(inspect(path_)) << more;
  }
}

TEST_P(Damage, ByABlockOfAnotherImageIsFound) {
  const Bytes content = random_pages(2, 1);
  ImageInfo info = one_region(8, 1, 0, GetParam());
  make_image(folder_ / "one", info, {{0, 0, content}});
  info.id = id_of(2);
  make_image(folder_ / "two", info, {{0, 0, random_pages(2, 2)}});
  Bytes mixed = read_file(folder_ / "one");
  const Bytes other = read_file(folder_ / "two");
  // All of the other but its header: only the seed of the blocks tells.
  std::copy(other.begin() + kPage, other.end(), mixed.begin() + kPage);
  Forgery forgery(mixed);
  layout::Footer footer = forgery.footer();
  footer.id = id_of(1);
  footer.checksum = checksum(layout::bytes_of(footer).first(offsetof(layout::Footer, checksum)));
  forgery.set_footer(footer);
  write_file(path_, mixed);
  EXPECT_TRUE(inspect(path_));
  EXPECT_FALSE(verify(path_));
}

// Checksums can be forged: what they are of must make sense nevertheless.
class Nonsense : public Damage {
 protected:
  using Change = std::function<void(Forgery&)>;
  /// What verify() says to the image with `change` and new checksums; 0: nothing.
  int verdict(const Change& change, std::uint8_t parent = 0) {
    Bytes image = small_image(folder_, GetParam(), parent);
    Forgery forgery(image);
    change(forgery);
    forgery.seal();
    write_file(path_, image);
    std::filesystem::remove(folder_ / "image");  // it has the same id
    const auto inspected = inspect(path_);
    return inspected ? 0 : inspected.error().number;
  }
};

INSTANTIATE_TEST_SUITE_P(All, Nonsense,
                         testing::Values(Compression::none, Compression::lz4, Compression::zstd),
                         [](const auto& each) { return name(each.param); });

TEST_P(Nonsense, InTheHeaderIsRefused) {
  const auto header = [this](const std::function<void(layout::Header&)>& change) {
    return verdict([&change](Forgery& forgery) {
      auto record = forgery.header();
      change(record);
      forgery.set_header(record);
    });
  };
  EXPECT_EQ(header([](auto&) {}), 0);
  EXPECT_EQ(header([](auto& h) { h.version = 2; }), ENOTSUP);
  EXPECT_EQ(header([](auto& h) { h.page_size = 0; }), ENOTSUP);
  EXPECT_EQ(header([](auto& h) { h.page_size = 12288; }), ENOTSUP);
  EXPECT_EQ(header([](auto& h) { h.page_size = 1u << 31; }), ENOTSUP);
  EXPECT_EQ(header([](auto& h) { h.page_size = 8192; }), EBADMSG);  // the header is shorter
  EXPECT_EQ(header([](auto& h) { h.compression = 3; }), ENOTSUP);
  EXPECT_EQ(header([](auto& h) { h.flags = 1; }), ENOTSUP);
  EXPECT_EQ(header([](auto& h) { h.region_count = 1; }), EBADMSG);
  EXPECT_EQ(header([](auto& h) { h.region_count = 4; }), EBADMSG);  // an empty name twice
  EXPECT_EQ(header([](auto& h) { h.region_count = 0xffffffff; }), EBADMSG);
  EXPECT_EQ(header([](auto& h) { h.id = {}; }), EBADMSG);
  EXPECT_EQ(header([](auto& h) { h.parent_id = h.id; }), EBADMSG);
  for (const std::uint32_t length : {0u, 1u, 88u, 4095u, 12288u, 0xfffff000u}) {
    EXPECT_EQ(header([length](auto& h) { h.header_bytes = length; }), EBADMSG) << length;
  }
}

TEST_P(Nonsense, InTheRegionsIsRefused) {
  const auto region = [this](const std::function<void(layout::Region&)>& change) {
    return verdict([&change](Forgery& forgery) {
      auto record = forgery.region();
      change(record);
      forgery.set_region(record);
    });
  };
  EXPECT_EQ(region([](auto&) {}), 0);
  EXPECT_EQ(region([](auto& r) { r.size_bytes += 1; }), EBADMSG);
  EXPECT_EQ(region([](auto& r) { r.size_bytes = kPage; }), EBADMSG);  // runs are beyond
  EXPECT_EQ(region([](auto& r) { r.size_bytes = 0 - kPage; }), EBADMSG);
  EXPECT_EQ(region([](auto& r) { r.base = 0 - kPage; }), EBADMSG);
  EXPECT_EQ(region([](auto& r) { r.base += 8; }), EBADMSG);
  EXPECT_EQ(region([](auto& r) { r.reserved = 1; }), EBADMSG);
  for (const std::uint32_t length : {0u, 9u, 255u, 256u, 0xfffffff9u, 0xffffffffu}) {
    EXPECT_EQ(region([length](auto& r) { r.name_length = length; }), EBADMSG) << length;
  }
}

TEST_P(Nonsense, InTheFooterIsRefused) {
  const auto footer = [this](const std::function<void(layout::Footer&)>& change) {
    return verdict([&change](Forgery& forgery) {
      auto record = forgery.footer();
      change(record);
      forgery.set_footer(record);
    });
  };
  EXPECT_EQ(footer([](auto&) {}), 0);
  for (const std::uint64_t value : {0ull, 1ull, 4096ull, 1ull << 40, ~0ull, ~0ull - 63}) {
    EXPECT_EQ(footer([value](auto& f) { f.index_offset = value; }), EBADMSG) << value;
    EXPECT_EQ(footer([value](auto& f) { f.index_bytes = value; }), EBADMSG) << value;
    EXPECT_EQ(footer([value](auto& f) { f.file_bytes = value; }), EBADMSG) << value;
    // Two that add up to the right sum, modulo two to the 64.
    EXPECT_EQ(footer([value](auto& f) {
                f.index_offset += value + 3;
                f.index_bytes -= value + 3;
              }),
              EBADMSG)
        << value;
  }
  EXPECT_EQ(footer([](auto& f) { f.id = id_of(77); }), EBADMSG);
}

TEST_P(Nonsense, InTheBlocksIsRefused) {
  const auto block = [this](const std::function<void(layout::Block&)>& change) {
    return verdict([&change](Forgery& forgery) {
      auto record = forgery.block(0);
      change(record);
      forgery.set_block(0, record);
    });
  };
  EXPECT_EQ(block([](auto&) {}), 0);
  for (const std::uint32_t value : {0u, 513u, 0xffffffffu, 0x80000000u}) {
    EXPECT_EQ(block([value](auto& b) { b.pages = value; }), EBADMSG) << value;
    EXPECT_EQ(block([value](auto& b) { b.stored_bytes = value; }), EBADMSG) << value;
  }
  EXPECT_EQ(block([](auto& b) { b.offset = 0; }), EBADMSG);
  EXPECT_EQ(block([](auto& b) { b.offset += 8; }), EBADMSG);
  EXPECT_EQ(block([](auto& b) { b.offset = ~0ull; }), EBADMSG);
  EXPECT_EQ(block([](auto& b) { b.encoding = 3; }), EBADMSG);
  EXPECT_EQ(block([](auto& b) { b.encoding ^= 3; }), EBADMSG);
  EXPECT_EQ(block([](auto& b) { b.reserved = 1; }), EBADMSG);
  EXPECT_EQ(verdict([](Forgery& forgery) {
              auto head = forgery.index_head();
              head.block_count = 0xffffffffffffffff;
              forgery.set_index_head(head);
            }),
            EBADMSG);
  // The sum of the lengths of the records, modulo two to the 64, is right.
  EXPECT_EQ(verdict([](Forgery& forgery) {
              auto head = forgery.index_head();
              head.block_count += 3ull << 59;
              forgery.set_index_head(head);
            }),
            EBADMSG);
}

TEST_P(Nonsense, InTheRunsIsRefused) {
  const auto run = [this](std::size_t number, const std::function<void(layout::Run&)>& change,
                          std::uint8_t parent = 0) {
    return verdict(
        [&](Forgery& forgery) {
          auto record = forgery.run(number);
          change(record);
          forgery.set_run(number, record);
        },
        parent);
  };
  EXPECT_EQ(run(0, [](auto&) {}), 0);
  EXPECT_EQ(run(0, [](auto& r) { r.region = 1; }), EBADMSG);  // not sorted
  EXPECT_EQ(run(0, [](auto& r) { r.region = 0xffffffff; }), EBADMSG);
  EXPECT_EQ(run(3, [](auto& r) { r.region = 2; }), EBADMSG);
  EXPECT_EQ(run(0, [](auto& r) { r.pages = 0; }), EBADMSG);
  EXPECT_EQ(run(0, [](auto& r) { r.pages = 3; }), EBADMSG);  // of a block of two
  EXPECT_EQ(run(0, [](auto& r) { r.pages = 0xffffffff; }), EBADMSG);
  EXPECT_EQ(run(0, [](auto& r) { r.first_page = ~0ull; }), EBADMSG);
  EXPECT_EQ(run(0, [](auto& r) { r.first_page = 7; }), EBADMSG);  // and 8 is the next one's
  EXPECT_EQ(run(3, [](auto& r) { r.first_page = 3; }), EBADMSG);  // its second page is outside
  EXPECT_EQ(run(0, [](auto& r) { r.block = 2; }), EBADMSG);
  EXPECT_EQ(run(0, [](auto& r) { r.page_in_block = 1; }), EBADMSG);
  EXPECT_EQ(run(0, [](auto& r) { r.page_in_block = 0xffffffff; }), EBADMSG);
  EXPECT_EQ(run(0, [](auto& r) { r.block = layout::kZeroBlock; }), 0);
  // A zero run may be as long as the region has room.
  EXPECT_EQ(run(
                2,
                [](auto& r) {
                  r = {0, 0xffffffff, 9, layout::kZeroBlock, 0};
                },
                1),
            EBADMSG);
}

TEST_P(Nonsense, InABlockIsFoundWhenItIsExpanded) {
  if (GetParam() == Compression::none) return;  // anything is good there
  Bytes image = small_image(folder_, GetParam());
  Forgery forgery(image);
  const layout::Block block = forgery.block(0);
  for (std::size_t at = 0; at < block.stored_bytes; ++at) {
    Bytes bad = image;
    bad[block.offset + at] ^= std::byte{0xff};
    Forgery(bad).seal();
    write_file(path_, bad);
    (void)is_refused(path_);  // literals may be changed unnoticed; it only must not crash
  }
  std::fill_n(image.begin() + static_cast<std::ptrdiff_t>(block.offset), block.stored_bytes,
              std::byte{0});
  forgery.seal();
  write_file(path_, image);
  EXPECT_TRUE(inspect(path_));
  EXPECT_EQ(verify(path_).error().number, EBADMSG);
}

}  // namespace
}  // namespace pagetrap::checkpoint::test
