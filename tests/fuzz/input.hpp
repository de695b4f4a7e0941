// What the bytes of an input mean to the image target: one or two files, and whether their
// checksums are made to agree, which mutations would otherwise hardly ever leave them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "checkpoint/image/forge.hpp"

namespace pagetrap::checkpoint::test {

/// A byte of flags, the first file's length (u32), the first file, the second.
struct FuzzInput {
  static constexpr std::uint8_t kSeal = 1;

  std::uint8_t flags = 0;
  std::vector<std::byte> image;
  std::vector<std::byte> parent;

  /// Takes any bytes.
  static FuzzInput parse(std::span<const std::uint8_t> bytes) {
    FuzzInput input;
    constexpr std::size_t kHead = 1 + sizeof(std::uint32_t);
    if (bytes.size() < kHead) return input;
    std::uint32_t length = 0;
    std::memcpy(&length, bytes.data() + 1, sizeof length);
    const auto files = std::as_bytes(bytes.subspan(kHead));
    length = static_cast<std::uint32_t>(std::min<std::size_t>(length, files.size()));
    input.flags = bytes[0];
    input.image.assign(files.begin(), files.begin() + length);
    input.parent.assign(files.begin() + length, files.end());
    if ((input.flags & kSeal) != 0) {
      Forgery(input.image).seal();
      Forgery(input.parent).seal();
    }
    return input;
  }

  [[nodiscard]] std::vector<std::uint8_t> bytes() const {
    const auto length = static_cast<std::uint32_t>(image.size());
    std::vector<std::uint8_t> all(1 + sizeof length + image.size() + parent.size());
    all[0] = flags;
    std::memcpy(&all[1], &length, sizeof length);
    const auto rest = std::as_writable_bytes(std::span(all)).subspan(1 + sizeof length);
    std::copy(parent.begin(), parent.end(), std::copy(image.begin(), image.end(), rest.begin()));
    return all;
  }
};

}  // namespace pagetrap::checkpoint::test
