// Text: what a report is written with. A buffer of its own, write(2), nothing allocated.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

class Text {
 public:
  /// Static storage: a signal stack has no room for it.
  constexpr Text() = default;
  Text& add(std::string_view words) noexcept PAGETRAP_SIGNAL_SAFE;
  Text& number(std::uint64_t value) noexcept PAGETRAP_SIGNAL_SAFE;
  Text& hex(std::uint64_t value) noexcept PAGETRAP_SIGNAL_SAFE;  // with 0x
  Text& pad_to(std::size_t column) noexcept PAGETRAP_SIGNAL_SAFE;
  /// In quotes, as JSON wants it.
  Text& quoted(std::string_view words) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] std::string_view view() const noexcept PAGETRAP_SIGNAL_SAFE {
    return {buffer_.data(), length_};
  }
  void clear() noexcept PAGETRAP_SIGNAL_SAFE { length_ = 0; }

 private:
  std::array<char, 48 * 1024> buffer_{};  // what does not fit is left out
  std::size_t length_ = 0;
};

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
