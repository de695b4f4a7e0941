// Byte shuffle and LZ4: bytes of the same place in each element stand together, where those of high
// order differ little.
#include <lz4.h>

#include <cerrno>
#include <cstring>

#include <pagetrap/compress/codec.hpp>

#include "compress/codecs/bytes.hpp"
#include "compress/unproved.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

namespace {

// `stride` is a constant in the common cases, so that the compiler unrolls the inner loop.
template <class Stride>
void gather(const std::byte* from, std::byte* to, std::size_t elements, Stride stride) noexcept {
  for (std::size_t i = 0; i < elements; ++i)
    for (std::size_t byte = 0; byte < stride; ++byte)
      to[byte * elements + i] = from[i * stride + byte];
}
template <class Stride>
void scatter(const std::byte* from, std::byte* to, std::size_t elements, Stride stride) noexcept {
  for (std::size_t i = 0; i < elements; ++i)
    for (std::size_t byte = 0; byte < stride; ++byte)
      to[i * stride + byte] = from[byte * elements + i];
}

template <std::size_t kStride>
struct Constant {
  constexpr operator std::size_t() const noexcept { return kStride; }
};

template <class Work>
void with_stride(std::size_t stride, Work work) noexcept {
  switch (stride) {
    case 2:
      return work(Constant<2>{});
    case 4:
      return work(Constant<4>{});
    case 8:
      return work(Constant<8>{});
    case 16:
      return work(Constant<16>{});
    default:
      return work(stride);
  }
}

class ShuffledLz4 final : public Codec {
 public:
  explicit ShuffledLz4(std::size_t stride) : stride_(stride) {}

  [[nodiscard]] const char* name() const noexcept PAGETRAP_SIGNAL_SAFE override {
    return "shuffled lz4";
  }
  [[nodiscard]] std::size_t scratch_bytes() const noexcept override {
    return page_size() + static_cast<std::size_t>(LZ4_sizeofState());
  }

  [[nodiscard]] std::size_t compress(std::span<const std::byte> page, std::span<std::byte> out,
                                     std::span<std::byte> scratch) const noexcept
      PAGETRAP_SIGNAL_SAFE override {
    int length = 0;
    unproved([&] {
      std::byte* const shuffled = scratch.data();
      const std::size_t elements = page.size() / stride_;
      with_stride(stride_, [&](auto stride) { gather(page.data(), shuffled, elements, stride); });
      const std::size_t whole = elements * stride_;
      std::memcpy(shuffled + whole, page.data() + whole, page.size() - whole);
      length = LZ4_compress_fast_extState(scratch.data() + page_size(),
                                          reinterpret_cast<const char*>(shuffled), chars(out),
                                          as_int(page.size()), as_int(out.size()), 1);
    });
    return length > 0 ? static_cast<std::size_t>(length) : 0;
  }

  [[nodiscard]] bool expand(std::span<const std::byte> blob, std::span<std::byte> page,
                            std::span<std::byte> scratch) const noexcept
      PAGETRAP_SIGNAL_SAFE override {
    int length = 0;
    unproved([&] {
      std::byte* const shuffled = scratch.data();
      length = LZ4_decompress_safe(chars(blob), reinterpret_cast<char*>(shuffled),
                                   as_int(blob.size()), as_int(page.size()));
      if (length != as_int(page.size())) return;
      const std::size_t elements = page.size() / stride_;
      with_stride(stride_, [&](auto stride) { scatter(shuffled, page.data(), elements, stride); });
      const std::size_t whole = elements * stride_;
      std::memcpy(page.data() + whole, shuffled + whole, page.size() - whole);
    });
    return length == as_int(page.size());
  }

 private:
  std::size_t stride_;
};

}  // namespace

Result<std::unique_ptr<Codec>> shuffled_lz4(unsigned stride) {
  if (stride < 2 || stride > 256)
    return Error{"shuffled_lz4", EINVAL, {}, "the stride is the size of an element, 2 to 256"};
  return std::unique_ptr<Codec>(new ShuffledLz4(stride));
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
