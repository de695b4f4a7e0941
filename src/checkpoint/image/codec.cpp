#include "checkpoint/image/codec.hpp"

#include <lz4.h>
#include <zstd.h>

#include <cstring>
#include <new>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

namespace {

// Checkpoints are taken often: at level 1 zstd is four times as fast as at its default and loses
// a tenth of the ratio.
constexpr int kZstdLevel = 1;

int as_int(std::size_t size) { return static_cast<int>(size); }  // blocks are below 32 MiB

const char* chars(std::span<const std::byte> bytes) {
  return reinterpret_cast<const char*>(bytes.data());
}

char* chars(std::span<std::byte> bytes) { return reinterpret_cast<char*>(bytes.data()); }

}  // namespace

// Made when first needed: zstd's take a megabyte.
struct Codec::Contexts {
  ZSTD_CCtx* compressor = nullptr;
  ZSTD_DCtx* expander = nullptr;

  Contexts() = default;
  ~Contexts() {
    ZSTD_freeCCtx(compressor);
    ZSTD_freeDCtx(expander);
  }
  Contexts(const Contexts&) = delete;
  Contexts& operator=(const Contexts&) = delete;
};

Codec::Codec() : contexts_(std::make_unique<Contexts>()) {}
Codec::~Codec() = default;

std::span<const std::byte> Codec::compress(layout::Encoding encoding,
                                           std::span<const std::byte> bytes) {
  if (encoding == layout::Encoding::raw || bytes.size() < 2) return {};
  // One byte less than it was: both libraries give up when that is full.
  const std::size_t room = bytes.size() - 1;
  if (compressed_.size() < room) compressed_.resize(room);
  if (encoding == layout::Encoding::lz4) {
    const int length = LZ4_compress_default(chars(bytes), chars(std::span(compressed_)),
                                            as_int(bytes.size()), as_int(room));
    return std::span(compressed_).first(length > 0 ? static_cast<std::size_t>(length) : 0);
  }
  if (contexts_->compressor == nullptr) contexts_->compressor = ZSTD_createCCtx();
  if (contexts_->compressor == nullptr) throw std::bad_alloc();
  const std::size_t length = ZSTD_compressCCtx(contexts_->compressor, compressed_.data(), room,
                                               bytes.data(), bytes.size(), kZstdLevel);
  return std::span(compressed_).first(ZSTD_isError(length) != 0 ? 0 : length);
}

bool Codec::expand(layout::Encoding encoding, std::span<const std::byte> stored,
                   std::span<std::byte> out) {
  switch (encoding) {
    case layout::Encoding::raw:
      if (stored.size() != out.size()) return false;
      std::memcpy(out.data(), stored.data(), out.size());
      return true;
    case layout::Encoding::lz4:
      return LZ4_decompress_safe(chars(stored), chars(out), as_int(stored.size()),
                                 as_int(out.size())) == as_int(out.size());
    case layout::Encoding::zstd:
      break;
  }
  if (contexts_->expander == nullptr) contexts_->expander = ZSTD_createDCtx();
  if (contexts_->expander == nullptr) throw std::bad_alloc();
  return ZSTD_decompressDCtx(contexts_->expander, out.data(), out.size(), stored.data(),
                             stored.size()) == out.size();
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
