// Fuzz target: any two files, taken for an image and its parent. Whatever they are, reading them
// ends with an Error or with a chain that keeps its promises; a broken promise is an abort.
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>

#include "checkpoint/image/chain.hpp"
#include "input.hpp"
#include "sys/fd.hpp"

namespace pagetrap::checkpoint::test {
namespace {

// Few bytes can stand for many. What is more is not expanded: that would find slowness, not errors.
constexpr std::uint64_t kMostExpanded = 64u << 20;

void require(bool promise, const char* what) {
  if (promise) return;
  std::fprintf(stderr, "fuzz_image: broken promise: %s\n", what);
  std::abort();
}

/// In memory where there is such a file system: thousands of files a second.
const std::string& folder() {
  // Never destroyed: it is needed at the very end.
  static const std::string& path = *[] {
    std::string name = std::filesystem::is_directory("/dev/shm")
                           ? "/dev/shm"
                           : std::filesystem::temp_directory_path().string();
    name += "/pagetrap-fuzz-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    std::atexit([] { std::filesystem::remove_all(folder()); });
    return new std::string(name);
  }();
  return path;
}

void write_file(const std::string& path, std::span<const std::byte> bytes) {
  const sys::Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  while (!bytes.empty()) {
    const ssize_t length = ::write(file.get(), bytes.data(), bytes.size());
    if (length <= 0) std::abort();
    bytes = bytes.subspan(static_cast<std::size_t>(length));
  }
}

class NullSink final : public Sink {
 public:
  Result<Done> write(std::span<const std::byte> /*bytes*/) override { return Done{}; }
  Result<Done> write_zeroes(std::uint64_t /*count*/) override { return Done{}; }
  Result<Done> commit() override { return Done{}; }
  void abandon() noexcept override {}
};

/// What chain.hpp says about blocks and pieces. The pages that all pieces have.
std::uint64_t check_promises(const Chain& chain) {
  const ImageInfo& info = chain.info();
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;  // of pages, all regions in a row
  std::vector<std::uint64_t> region_begin{0};
  for (const ImageRegion& region : info.regions) {
    region_begin.push_back(region_begin.back() + region.size_bytes / info.page_size);
  }
  std::uint64_t last_first = 0;
  for (const ChainBlock& block : chain.blocks()) {
    require(block.image < chain.images(), "a block is of an image");
    require(block.pages != 0 && block.pages <= 512, "a block has pages");
    require(block.piece_count != 0, "a block is needed");
    const std::int64_t offset = chain.mappable_offset(block);
    require(offset == -1 || (offset > 0 && offset % info.page_size == 0), "offsets are aligned");
    std::uint64_t first = ~std::uint64_t{0};
    for (const ChainPiece& piece : chain.pieces(block)) {
      require(piece.region < info.regions.size(), "a piece is of a region");
      const std::uint64_t region_pages = info.regions[piece.region].size_bytes / info.page_size;
      require(piece.pages != 0 && piece.first_page <= region_pages &&
                  piece.pages <= region_pages - piece.first_page,
              "a piece is inside its region");
      require(
          piece.page_in_block <= block.pages && piece.pages <= block.pages - piece.page_in_block,
          "a piece is inside its block");
      const std::uint64_t begin = region_begin[piece.region] + piece.first_page;
      ranges.emplace_back(begin, begin + piece.pages);
      first = std::min(first, begin);
    }
    require(first >= last_first, "blocks are sorted by their first page");
    last_first = first;
  }
  std::sort(ranges.begin(), ranges.end());
  std::uint64_t pages = 0;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    require(i == 0 || ranges[i - 1].second <= ranges[i].first, "no page is in two pieces");
    pages += ranges[i].second - ranges[i].first;
  }
  return pages;
}

/// Whether all blocks that are needed can be loaded.
bool load_all(const Chain& chain) {
  std::vector<std::byte> pages;
  std::vector<std::byte> scratch;
  for (const ChainBlock& block : chain.blocks()) {
    pages.resize(std::size_t{block.pages} * chain.info().page_size);
    if (!chain.load(block, pages, scratch)) return false;
  }
  return true;
}

void read_as_image(const std::string& path) {
  const auto info = inspect(path);
  const auto opened = Chain::open(path);
  require(info || !opened, "what opens can be inspected");
  if (!opened) return;
  const Chain& chain = **opened;
  const std::uint64_t piece_pages = check_promises(chain);
  std::uint64_t expanded = piece_pages * info->page_size;
  for (const ChainBlock& block : chain.blocks()) {
    expanded += std::uint64_t{block.pages} * info->page_size;
  }
  if (expanded > kMostExpanded) return;
  const bool whole = load_all(chain);
  NullSink sink;
  require(whole == static_cast<bool>(merge(path, sink, Compression::lz4, {}, 1)),
          "what can be loaded can be merged");
  if (!info->regions.empty() && info->regions[0].size_bytes <= kMostExpanded) {
    require(static_cast<bool>(extract(path, info->regions[0].name, sink)) || !whole,
            "what can be loaded can be extracted");
  }
}

}  // namespace
}  // namespace pagetrap::checkpoint::test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pagetrap::checkpoint::test;
  const FuzzInput input = FuzzInput::parse({data, size});
  const std::string image = folder() + "/image";
  const std::string parent = folder() + "/parent";
  write_file(image, input.image);
  if (input.parent.empty()) {
    ::unlink(parent.c_str());
  } else {
    write_file(parent, input.parent);
  }
  read_as_image(image);
  return 0;
}
