// What the tests of images share: a folder, memory with known contents, images made of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <pagetrap/checkpoint/image.hpp>
#include <pagetrap/checkpoint/sink.hpp>

#include "checkpoint/image/writer.hpp"

namespace pagetrap::checkpoint::test {

inline constexpr std::size_t kPage = 4096;

/// A folder that goes with its contents.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const {
    return (path_ / name).string();
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// Names, hidden ones too.
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  std::filesystem::path path_;
};

/// Takes what is written.
class MemorySink final : public Sink {
 public:
  Result<Done> write(std::span<const std::byte> bytes) override;
  Result<Done> commit() override;
  void abandon() noexcept override { abandoned = true; }
  std::vector<std::byte> bytes;
  int committed = 0;
  bool abandoned = false;
};

using Bytes = std::vector<std::byte>;
Bytes read_file(const std::string& path);
void write_file(const std::string& path, std::span<const std::byte> bytes);

/// `pages` pages, none of them zero, that differ with `seed` and compress somewhat.
Bytes written_pages(std::size_t pages, std::uint64_t seed);
/// The same, but of random bytes, which nothing compresses.
Bytes random_pages(std::size_t pages, std::uint64_t seed);

ImageId id_of(std::uint8_t number);

/// One region "heap" of `pages` pages, id `number`, parent `parent` (0: none).
ImageInfo one_region(std::size_t pages, std::uint8_t number, std::uint8_t parent = 0,
                     Compression compression = Compression::none);

/// Pages to put into an image.
struct Piece {
  std::uint32_t region = 0;
  std::uint64_t first_page = 0;
  Bytes bytes;
};
/// Writes an image to `path`, one block for each piece. Throws SystemError.
ImageInfo make_image(const std::string& path, const ImageInfo& info,
                     const std::vector<Piece>& pieces);

/// The contents of all regions, by Chain::load. Throws SystemError.
std::vector<Bytes> load_all(const std::string& path);

}  // namespace pagetrap::checkpoint::test
