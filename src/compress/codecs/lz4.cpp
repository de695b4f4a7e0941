// LZ4, alone and with a dictionary.
#include <lz4.h>

#include <utility>

#include <pagetrap/compress/codec.hpp>

#include "compress/codecs/bytes.hpp"
#include "compress/codecs/dictionary.hpp"
#include "compress/codecs/lz4_encoder.hpp"
#include "compress/unproved.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

namespace {

// LZ4 sees 64 KiB back from where it is, so that from the end of a page the front of a longer
// dictionary is out of sight.
constexpr std::size_t kSight = 64 * 1024 - 1;

class TrainedLz4 final : public Codec {
 public:
  /// `bytes` is in the dictionary: what can be seen of it.
  TrainedLz4(Dictionary dictionary, std::span<const std::byte> bytes, Lz4Encoder encoder)
      : dictionary_(std::move(dictionary)), bytes_(bytes), encoder_(std::move(encoder)) {}

  [[nodiscard]] const char* name() const noexcept PAGETRAP_SIGNAL_SAFE override {
    return "lz4+dictionary";
  }
  [[nodiscard]] std::size_t scratch_bytes() const noexcept override { return Lz4Encoder::kScratch; }

  [[nodiscard]] std::size_t compress(std::span<const std::byte> page, std::span<std::byte> out,
                                     std::span<std::byte> scratch) const noexcept
      PAGETRAP_SIGNAL_SAFE override {
    return encoder_.encode(page, out, scratch);
  }
  [[nodiscard]] bool expand(std::span<const std::byte> blob, std::span<std::byte> page,
                            std::span<std::byte>) const noexcept PAGETRAP_SIGNAL_SAFE override {
    int length = 0;
    unproved([&] {
      length =
          LZ4_decompress_safe_usingDict(chars(blob), chars(page), as_int(blob.size()),
                                        as_int(page.size()), chars(bytes_), as_int(bytes_.size()));
    });
    return length == as_int(page.size());
  }
  [[nodiscard]] Result<std::unique_ptr<Codec>> train(
      std::span<const std::byte> pages) const override {
    return lz4()->train(pages);
  }
  [[nodiscard]] std::size_t own_bytes() const noexcept override {
    return dictionary_.memory.range().size_bytes() + encoder_.own_bytes() +
           bytes(pages_for(sizeof *this));
  }

 private:
  Dictionary dictionary_;
  std::span<const std::byte> bytes_;
  Lz4Encoder encoder_;
};

class Lz4 final : public Codec {
 public:
  [[nodiscard]] const char* name() const noexcept PAGETRAP_SIGNAL_SAFE override { return "lz4"; }
  [[nodiscard]] std::size_t scratch_bytes() const noexcept override {
    return static_cast<std::size_t>(LZ4_sizeofState());
  }
  [[nodiscard]] std::size_t compress(std::span<const std::byte> page, std::span<std::byte> out,
                                     std::span<std::byte> scratch) const noexcept
      PAGETRAP_SIGNAL_SAFE override {
    int length = 0;
    unproved([&] {
      length = LZ4_compress_fast_extState(scratch.data(), chars(page), chars(out),
                                          as_int(page.size()), as_int(out.size()), 1);
    });
    return length > 0 ? static_cast<std::size_t>(length) : 0;
  }
  [[nodiscard]] bool expand(std::span<const std::byte> blob, std::span<std::byte> page,
                            std::span<std::byte>) const noexcept PAGETRAP_SIGNAL_SAFE override {
    int length = 0;
    unproved([&] {
      length =
          LZ4_decompress_safe(chars(blob), chars(page), as_int(blob.size()), as_int(page.size()));
    });
    return length == as_int(page.size());
  }
  [[nodiscard]] Result<std::unique_ptr<Codec>> train(
      std::span<const std::byte> pages) const override {
    const std::size_t seen = kSight - page_size();
    auto dictionary = train_dictionary(pages, seen);
    if (!dictionary) return dictionary.error();
    const std::span<const std::byte> bytes = dictionary->bytes;
    auto encoder = Lz4Encoder::create(bytes);
    if (!encoder) return encoder.error();
    return std::unique_ptr<Codec>(
        new TrainedLz4(std::move(*dictionary), bytes, std::move(*encoder)));
  }
};

}  // namespace

std::unique_ptr<Codec> lz4() { return std::unique_ptr<Codec>(new Lz4); }

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
