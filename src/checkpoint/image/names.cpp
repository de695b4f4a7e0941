#include <pagetrap/checkpoint/image.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

const char* name(Compression compression) noexcept {
  switch (compression) {
    case Compression::none:
      return "none";
    case Compression::lz4:
      return "lz4";
    case Compression::zstd:
      return "zstd";
  }
  return "?";
}

std::string text(const ImageId& id) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string digits;
  digits.reserve(2 * id.size());
  for (const std::uint8_t byte : id) {
    digits += kDigits[byte >> 4];
    digits += kDigits[byte & 15];
  }
  return digits;
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
