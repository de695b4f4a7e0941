#include <pagetrap/checkpoint/sink.hpp>

#include <algorithm>
#include <array>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

Result<Done> Sink::write_zeroes(std::uint64_t count) {
  static constexpr std::array<std::byte, 65536> kZeroes{};
  while (count != 0) {
    const std::size_t piece = std::min<std::uint64_t>(count, kZeroes.size());
    if (auto written = write(std::span(kZeroes).first(piece)); !written) return written;
    count -= piece;
  }
  return Done{};
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
