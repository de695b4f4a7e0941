#include "checkpoint/image/chain.hpp"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <map>
#include <new>
#include <optional>

#include "checkpoint/image/layout.hpp"
#include "checkpoint/image/overlay.hpp"
#include "checkpoint/image/stored_image.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

namespace {

/// Of which file an Error is matters to who has to replace it.
Error of_parent(Error error) {
  error.operation = "reading a parent of the image";
  return error;
}

constexpr const char* kNoParent =
    "a parent of the image is not in its directory; put it there, or use a full image";

/// The images of one directory by id, looked for when the first parent is.
class Siblings {
 public:
  static Result<Siblings> list(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), &::closedir);
    if (entries == nullptr) return Error{"opendir of the image's directory", errno};
    Siblings siblings;
    for (;;) {
      errno = 0;
      const dirent* const entry = ::readdir(entries.get());
      if (entry == nullptr) break;
      // Hidden: "." and "..", and images that are being written.
      if (entry->d_name[0] == '.') continue;
      if (const auto id = peek_id(::dirfd(entries.get()), entry->d_name)) {
        siblings.paths_.emplace(*id, folder == "." ? entry->d_name : folder + entry->d_name);
      }
    }
    if (errno != 0) return Error{"readdir of the image's directory", errno};
    return siblings;
  }

  /// The first of the files with this id that is an intact image; the last one's Error.
  Result<std::unique_ptr<StoredImage>> open(const ImageId& id, std::string& path) const {
    Error error{"Chain::open", ENOENT, {}, kNoParent};
    const auto [begin, end] = paths_.equal_range(id);
    for (auto each = begin; each != end; ++each) {
      auto image = StoredImage::open(AT_FDCWD, each->second.c_str());
      if (image && (*image)->info().id == id) {
        path = each->second;
        return image;
      }
      if (!image) error = of_parent(image.error());
    }
    return error;
  }

 private:
  std::multimap<ImageId, std::string> paths_;
};

/// The index in `child` of each of `parent`'s regions. The empty Error (number 0) if they agree.
Error match_regions(const ImageInfo& child, const ImageInfo& parent,
                    std::vector<std::uint32_t>& numbers) {
  if (child.page_size != parent.page_size) {
    return Error{"Chain::open", EBADMSG, {}, "the parent has another page size"};
  }
  std::map<std::string_view, std::uint32_t> by_name;
  for (std::uint32_t i = 0; i < child.regions.size(); ++i) by_name[child.regions[i].name] = i;
  for (const ImageRegion& region : parent.regions) {
    const auto found = by_name.find(region.name);
    if (found == by_name.end()) {
      return Error{"Chain::open", EBADMSG, {}, "the parent has a region that its child has not"};
    }
    const ImageRegion& same = child.regions[found->second];
    if (same.base != region.base || same.size_bytes < region.size_bytes) {
      return Error{"Chain::open", EBADMSG, {}, "a region of the parent is elsewhere, or larger"};
    }
    numbers.push_back(found->second);
  }
  return Error{};
}

class FileChain final : public Chain {
 public:
  Result<Done> open_all(const std::string& path) {
    auto newest = StoredImage::open(AT_FDCWD, path.c_str());
    if (!newest) return newest.error();
    images_.push_back(std::move(*newest));
    paths_.push_back(path);
    std::optional<Siblings> siblings;
    while (images_.back()->info().incremental()) {
      const ImageId parent = images_.back()->info().parent;
      for (const auto& image : images_) {
        if (image->info().id == parent) {
          return Error{"Chain::open", EBADMSG, {}, "the image is among its own ancestors"};
        }
      }
      if (!siblings) {
        auto listed = Siblings::list(path);
        if (!listed) return listed.error();
        siblings = std::move(*listed);
      }
      auto image = siblings->open(parent, paths_.emplace_back());
      if (!image) return image.error();
      images_.push_back(std::move(*image));
    }
    return overlay();
  }

  [[nodiscard]] const ImageInfo& info() const noexcept override { return images_[0]->info(); }
  [[nodiscard]] std::size_t images() const noexcept override { return images_.size(); }
  [[nodiscard]] const ImageInfo& image_info(std::uint32_t index) const noexcept override {
    return images_[index]->info();
  }
  [[nodiscard]] const std::string& image_path(std::uint32_t index) const noexcept override {
    return paths_[index];
  }
  [[nodiscard]] std::span<const ChainBlock> blocks() const noexcept override { return blocks_; }
  [[nodiscard]] std::span<const ChainPiece> pieces(
      const ChainBlock& block) const noexcept override {
    return std::span(pieces_).subspan(block.first_piece, block.piece_count);
  }

  Result<Done> load(const ChainBlock& block, std::span<std::byte> out,
                    std::vector<std::byte>& scratch) const override try {
    return load_of(block.image, block.block, out, scratch);
  } catch (const std::bad_alloc&) {
    return Error{"Chain::load", ENOMEM};
  }

  Result<std::uint64_t> check_block(std::uint32_t index, std::uint32_t block,
                                    std::vector<std::byte>& pages,
                                    std::vector<std::byte>& scratch) const override try {
    const layout::Block record = images_[index]->block(block);
    pages.resize(std::size_t{record.pages} * info().page_size);
    if (auto done = load_of(index, block, pages, scratch); !done) return done.error();
    return record.stored_bytes;
  } catch (const std::bad_alloc&) {
    return Error{"verify", ENOMEM};
  }

  [[nodiscard]] std::int64_t mappable_offset(const ChainBlock& block) const noexcept override {
    const layout::Block stored = images_[block.image]->block(block.block);
    const bool raw = stored.encoding == static_cast<std::uint32_t>(layout::Encoding::raw);
    if (!raw || stored.offset % info().page_size != 0) return -1;
    return static_cast<std::int64_t>(stored.offset);
  }
  [[nodiscard]] int descriptor(std::uint32_t index) const noexcept override {
    return images_[index]->descriptor();
  }

 private:
  Result<Done> load_of(std::uint32_t index, std::uint32_t block, std::span<std::byte> out,
                       std::vector<std::byte>& scratch) const {
    auto done = images_[index]->load(block, out, scratch);
    if (!done && index != 0) return of_parent(done.error());
    return done;
  }

  /// Fills blocks_ and pieces_.
  Result<Done> overlay() {
    std::vector<OverlayImage> layers;
    for (std::size_t i = 0; i < images_.size(); ++i) {
      layers.push_back({images_[i].get(), {}});
      if (i == 0) {
        for (std::uint32_t r = 0; r < info().regions.size(); ++r) layers[0].regions.push_back(r);
        continue;
      }
      // Through the generations between: the numbers in the child are those in the newest then.
      std::vector<std::uint32_t> in_child;
      if (const Error error = match_regions(images_[i - 1]->info(), images_[i]->info(), in_child);
          error.number != 0) {
        return error;
      }
      for (const std::uint32_t number : in_child) {
        layers[i].regions.push_back(layers[i - 1].regions[number]);
      }
    }
    return gather(layers);
  }

  /// Groups the overlay's pieces, which come by page, by block.
  Result<Done> gather(std::span<const OverlayImage> layers) {
    constexpr std::uint32_t kNone = 0xffffffff;
    std::vector<std::vector<std::uint32_t>> numbers;  // of image and block: index in blocks_
    for (const auto& image : images_) numbers.emplace_back(image->block_count(), kNone);
    std::vector<ChainPiece> by_page;
    std::vector<std::uint32_t> block_of;  // of each in by_page
    for (Overlay overlay(layers); const auto top = overlay.next();) {
      if (by_page.size() >= kNone) {
        return Error{"Chain::open", EFBIG, {}, "the chain has too many pieces; merge it in parts"};
      }
      std::uint32_t& number = numbers[top->image][top->block];
      if (number == kNone) {
        number = static_cast<std::uint32_t>(blocks_.size());
        blocks_.push_back(
            {top->image, top->block, images_[top->image]->block(top->block).pages, 0, 0});
      }
      ++blocks_[number].piece_count;
      by_page.push_back(top->piece);
      block_of.push_back(number);
    }
    for (const auto& image : images_) image->drop_runs();
    std::uint32_t next = 0;
    for (ChainBlock& block : blocks_) {
      block.first_piece = next;
      next += std::exchange(block.piece_count, 0);
    }
    pieces_.resize(by_page.size());
    for (std::size_t i = 0; i < by_page.size(); ++i) {
      ChainBlock& block = blocks_[block_of[i]];
      pieces_[block.first_piece + block.piece_count++] = by_page[i];
    }
    return Done{};
  }

  std::vector<std::unique_ptr<StoredImage>> images_;
  std::vector<std::string> paths_;
  std::vector<ChainBlock> blocks_;
  std::vector<ChainPiece> pieces_;
};

}  // namespace

Result<std::unique_ptr<Chain>> Chain::open(const std::string& path) try {
  auto chain = std::make_unique<FileChain>();
  if (auto opened = chain->open_all(path); !opened) return opened.error();
  return std::unique_ptr<Chain>(std::move(chain));
} catch (const std::bad_alloc&) {
  return Error{"Chain::open", ENOMEM, {}, "there is no memory for the index"};
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
