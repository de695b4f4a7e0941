// LZ4, alone and with a dictionary.
#include <lz4.h>

#include <cstring>
#include <utility>

#include <pagetrap/compress/codec.hpp>

#include "compress/codecs/bytes.hpp"
#include "compress/codecs/dictionary.hpp"
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
  explicit TrainedLz4(Dictionary dictionary) : dictionary_(std::move(dictionary)) {
    const std::size_t seen = kSight - page_size();
    bytes_ = dictionary_.bytes;
    if (bytes_.size() > seen) bytes_ = bytes_.last(seen);
    LZ4_initStream(&learnt_, sizeof learnt_);
    LZ4_loadDict(&learnt_, chars(bytes_), as_int(bytes_.size()));
  }

  [[nodiscard]] const char* name() const noexcept PAGETRAP_SIGNAL_SAFE override {
    return "lz4+dictionary";
  }
  [[nodiscard]] std::size_t scratch_bytes() const noexcept override { return sizeof(LZ4_stream_t); }

  [[nodiscard]] std::size_t compress(std::span<const std::byte> page, std::span<std::byte> out,
                                     std::span<std::byte> scratch) const noexcept
      PAGETRAP_SIGNAL_SAFE override {
    int length = 0;
    unproved([&] {
      // The state after the dictionary, each time anew: blobs must not depend on one another.
      auto* const stream = reinterpret_cast<LZ4_stream_t*>(scratch.data());
      std::memcpy(stream, &learnt_, sizeof learnt_);
      length = LZ4_compress_fast_continue(stream, chars(page), chars(out), as_int(page.size()),
                                          as_int(out.size()), 1);
    });
    return length > 0 ? static_cast<std::size_t>(length) : 0;
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
    return dictionary_.memory.range().size_bytes() + bytes(pages_for(sizeof *this));
  }

 private:
  Dictionary dictionary_;
  std::span<const std::byte> bytes_;  // of the dictionary: what can be seen
  LZ4_stream_t learnt_;
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
    auto dictionary = train_dictionary(pages, 64_KiB);
    if (!dictionary) return dictionary.error();
    return std::unique_ptr<Codec>(new TrainedLz4(std::move(*dictionary)));
  }
};

}  // namespace

std::unique_ptr<Codec> lz4() { return std::unique_ptr<Codec>(new Lz4); }

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
