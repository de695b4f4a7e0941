#include "support.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <system_error>

#include "checkpoint/image/chain.hpp"

namespace pagetrap::checkpoint::test {

Folder::Folder() {
  std::string name = (std::filesystem::temp_directory_path() / "pagetrap-image-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    throw std::system_error(errno, std::generic_category(), "mkdtemp");
  }
  path_ = name;
}

Folder::~Folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> Folder::names() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<Done> MemorySink::write(std::span<const std::byte> more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
  return Done{};
}

Result<Done> MemorySink::commit() {
  ++committed;
  return Done{};
}

Bytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> chars{std::istreambuf_iterator<char>(file), {}};
  Bytes bytes(chars.size());
  if (!chars.empty()) std::memcpy(bytes.data(), chars.data(), chars.size());
  return bytes;
}

void write_file(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) throw std::system_error(errno, std::generic_category(), path);
}

Bytes written_pages(std::size_t pages, std::uint64_t seed) {
  Bytes bytes(pages * kPage);
  std::mt19937_64 random(seed);
  for (std::size_t at = 0; at < bytes.size(); at += 64) {
    const std::uint64_t word = random() | 1;  // the other 56 bytes of the line are zero
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
  return bytes;
}

Bytes random_pages(std::size_t pages, std::uint64_t seed) {
  Bytes bytes(pages * kPage);
  std::mt19937_64 random(seed);
  for (std::size_t at = 0; at < bytes.size(); at += 8) {
    const std::uint64_t word = random();
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
  return bytes;
}

ImageId id_of(std::uint8_t number) {
  ImageId id{};
  id.front() = id.back() = number;
  return id;
}

ImageInfo one_region(std::size_t pages, std::uint8_t number, std::uint8_t parent,
                     Compression compression) {
  ImageInfo info;
  info.page_size = kPage;
  info.id = id_of(number);
  info.parent = id_of(parent);
  info.generation = number;
  info.created_ns = 1'700'000'000'000'000'000;
  info.compression = compression;
  info.regions = {{"heap", 0x10000000, pages * kPage, 0x10000040}};
  return info;
}

ImageInfo make_image(const std::string& path, const ImageInfo& info,
                     const std::vector<Piece>& pieces) {
  const auto sink = file_sink(path).value();
  const auto writer = ImageWriter::begin(*sink, info).value();
  for (const Piece& piece : pieces) {
    const BlockRun run{piece.region,
                       static_cast<std::uint32_t>(piece.bytes.size() / info.page_size),
                       piece.first_page};
    (void)writer->add({&run, 1}, piece.bytes).value();
  }
  ImageInfo made = writer->finish().value();
  (void)sink->commit().value();
  return made;
}

std::vector<Bytes> load_all(const std::string& path) {
  const auto chain = Chain::open(path).value();
  const std::size_t page_size = chain->info().page_size;
  std::vector<Bytes> regions;
  for (const ImageRegion& region : chain->info().regions) regions.emplace_back(region.size_bytes);
  Bytes pages;
  Bytes scratch;
  for (const ChainBlock& block : chain->blocks()) {
    pages.resize(block.pages * page_size);
    (void)chain->load(block, pages, scratch).value();
    for (const ChainPiece& piece : chain->pieces(block)) {
      std::memcpy(regions[piece.region].data() + piece.first_page * page_size,
                  pages.data() + piece.page_in_block * page_size, piece.pages * page_size);
    }
  }
  return regions;
}

}  // namespace pagetrap::checkpoint::test
