// Codec: compresses and expands blocks. Not for several threads at once; each takes its own.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "checkpoint/image/layout.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

class Codec {
 public:
  Codec();
  ~Codec();
  Codec(const Codec&) = delete;
  Codec& operator=(const Codec&) = delete;

  /// `bytes` compressed, until the next call; empty if that would not make them shorter, or if
  /// `encoding` is raw.
  std::span<const std::byte> compress(layout::Encoding encoding, std::span<const std::byte> bytes);

  /// Expands `stored` so that it fills `out` exactly. False if it does not: then it is not what
  /// compress() made, and `out` has any contents.
  bool expand(layout::Encoding encoding, std::span<const std::byte> stored,
              std::span<std::byte> out);

 private:
  struct Contexts;
  std::unique_ptr<Contexts> contexts_;
  std::vector<std::byte> compressed_;
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
