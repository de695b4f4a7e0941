// Where stores are mapped, what an exchange of addresses is, and files of the first version.
#include <pagetrap/store/inspect.hpp>

#include "store/disk/file_disk.hpp"
#include "store/format/superblock.hpp"
#include "store/typed.hpp"

namespace pagetrap::store {
namespace {

// Made by a program of before there were maps: read, and from then on of this version.
TEST(Versions, AFileOfVersion1) {
  Folder folder;
  const std::string path = folder.file("a.store");
  using Plain = std::pmr::vector<int>;
  const auto version = [&] {
    return read_superblock(*FileDisk::open(path, FileUse::existing).value()).value().block.version;
  };
  {
    auto store = Store::open(path, small_store()).value();
    store.root<Plain>("plain").value();
  }
  EXPECT_EQ(version(), 2U);
  {
    auto disk = FileDisk::open(path, FileUse::existing).value();
    Superblock block = read_superblock(*disk).value().block;
    block.version = 1;
    EXPECT_FALSE(failed(write_superblock(*disk, block)));
  }
  EXPECT_TRUE(StoreFile::open(path).value().verify());
  { auto looked_at = Store::open(path, small_store()).value(); }
  EXPECT_EQ(version(), 1U);
  {
    auto store = Store::open(path, small_store()).value();
    auto& plain = *store.root<Plain>("plain").value();
    EXPECT_OK(store.transaction([&] { plain.push_back(1); }));
    StoreState::of(store).abandon_file();
  }
  EXPECT_EQ(version(), 2U);
}

// Addresses chosen by chance: their sixth byte is a control character.
TEST(Places, NoTextLooksLikeOne) {
  for (int i = 0; i < 2000; ++i) {
    for (const std::uint64_t reserve : {std::uint64_t{2_MiB}, std::uint64_t{16_GiB}, 1024_GiB}) {
      const std::uint64_t base = random_base(reserve);
      EXPECT_EQ(base % kOwnBytes, 0U);
      EXPECT_GE((base - kOwnBytes) >> 40, 0x14U);
      EXPECT_LE((base + reserve) >> 40, 0x1fU);
      EXPECT_EQ(base % 4_GiB, kOwnBytes);
      EXPECT_EQ(random_base(reserve, 0x1234'5678'9abc'd000) % 4_GiB, 0x9abc'd000U);
    }
  }
}

TEST(Exchange, IsItsOwnInverse) {
  const Relocation relocation(0x1400'0000'0000, 0x1500'0000'0000, 0x1000);
  EXPECT_EQ(relocation.exchange(0x1400'0000'0010), 0x1500'0000'0010U);
  EXPECT_EQ(relocation.exchange(0x1500'0000'1000), 0x1400'0000'1000U);
  EXPECT_EQ(relocation.exchange(0x1500'0000'1001), 0x1500'0000'1001U);
  EXPECT_EQ(relocation.exchange(0), 0U);
  campaign::Random random(5);
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t word = 0x1400'0000'0000 + random() % 0x200'0000'0000;
    EXPECT_EQ(relocation.exchange(relocation.exchange(word)), word);
  }
}

}  // namespace
}  // namespace pagetrap::store
