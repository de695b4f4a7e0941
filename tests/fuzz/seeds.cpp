#include "seeds.hpp"

#include "checkpoint/image/support.hpp"

namespace pagetrap::checkpoint::test {

std::vector<FuzzInput> seeds() {
  const Folder folder;
  std::vector<FuzzInput> all;
  for (const Compression compression : {Compression::none, Compression::lz4, Compression::zstd}) {
    ImageInfo info = one_region(40, 1, 0, compression);
    info.regions.push_back({"other", 0x20000000, 8 * kPage, 0});
    Bytes holed = written_pages(3, 2);
    std::fill_n(holed.begin() + kPage, kPage, std::byte{0});
    make_image(folder / "full", info,
               {{0, 2, written_pages(1, 1)}, {0, 20, holed}, {1, 1, written_pages(1, 1)}});
    std::swap(info.regions[0], info.regions[1]);
    info.id = id_of(2);
    info.parent = id_of(1);
    make_image(folder / "child", info,
               {{1, 21, holed}, {1, 2, Bytes(kPage)}, {0, 0, written_pages(1, 4)}});
    const Bytes full = read_file(folder / "full");
    all.push_back({FuzzInput::kSeal, full, {}});
    all.push_back({FuzzInput::kSeal, read_file(folder / "child"), full});
  }
  return all;
}

}  // namespace pagetrap::checkpoint::test
