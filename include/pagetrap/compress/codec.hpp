// Codec: one way to compress a page. Choose one for each kind of data; or write one.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace compress {

/// Immutable, and used by many threads at once. What a call needs beside its arguments is in
/// `scratch`, which belongs to that call alone.
class PAGETRAP_API Codec {
 public:
  Codec() = default;
  virtual ~Codec() = default;
  Codec(const Codec&) = delete;
  Codec& operator=(const Codec&) = delete;

  /// A literal: "lz4+dictionary".
  [[nodiscard]] virtual const char* name() const noexcept PAGETRAP_SIGNAL_SAFE = 0;

  /// How long `scratch` must be. It is aligned to a page, and is committed as it is touched.
  [[nodiscard]] virtual std::size_t scratch_bytes() const noexcept = 0;
  /// Called before the others whenever another codec, or none, used `scratch` last.
  virtual void prepare(std::span<std::byte> scratch) const noexcept PAGETRAP_SIGNAL_SAFE;

  /// Compresses `page` into the front of `out`: the length, or 0 if `out` is too short for it.
  [[nodiscard]] virtual std::size_t compress(std::span<const std::byte> page,
                                             std::span<std::byte> out,
                                             std::span<std::byte> scratch) const noexcept
      PAGETRAP_SIGNAL_SAFE = 0;
  /// Expands `blob` so that it fills `page` exactly. False if it does not: then it is not what
  /// compress() made. Whatever `blob` is, nothing is read outside it, or written outside `page`.
  [[nodiscard]] virtual bool expand(std::span<const std::byte> blob, std::span<std::byte> page,
                                    std::span<std::byte> scratch) const noexcept
      PAGETRAP_SIGNAL_SAFE = 0;

  /// Another codec that has learnt from `pages`, whole pages one after the other. May take seconds,
  /// allocates, throws std::bad_alloc. ENOTSUP: it does not learn. EINVAL: too few pages, or
  /// nothing in common between them.
  [[nodiscard]] virtual Result<std::unique_ptr<Codec>> train(
      std::span<const std::byte> pages) const;

  /// Bytes of its own: dictionary and tables.
  [[nodiscard]] virtual std::size_t own_bytes() const noexcept { return 0; }

  /// In pages of their own, since what malloc gives may itself be paged memory.
  static void* operator new(std::size_t size);
  static void operator delete(void* codec, std::size_t size) noexcept;
};

/// 9 us to compress a page of C headers, 2 to expand it, 0.41 of its bytes. Trained on a quarter of
/// them: 18 us, 3, and 0.29. Medians on one Cascade Lake processor in a virtual machine; so below.
PAGETRAP_API std::unique_ptr<Codec> lz4();

/// For pages that are rarely needed: 21 us, 6 to expand, 0.29 of the bytes. `level` as zstd's, 1 to
/// 19. Trained: 15 us, 5, and 0.22.
PAGETRAP_API std::unique_ptr<Codec> zstd(int level = 3);

/// LZ4 of all first bytes of elements of `stride` bytes, then all second bytes, and so on: for
/// arrays of numbers, or of small records. `stride` from 2 to 256.
PAGETRAP_API Result<std::unique_ptr<Codec>> shuffled_lz4(unsigned stride);

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
