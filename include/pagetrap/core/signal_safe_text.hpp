// Text for places where printf may not be called: builds a line in a fixed buffer, for one
// write(2).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {

/// A line of at most 512 bytes, built without allocation. What does not fit is cut and the line
/// ends in "..."; nothing is ever written past the buffer. Signal-safe; not shared between threads.
class PAGETRAP_API SignalSafeText {
 public:
  SignalSafeText& text(std::string_view words) noexcept PAGETRAP_SIGNAL_SAFE;
  SignalSafeText& decimal(std::int64_t number) noexcept PAGETRAP_SIGNAL_SAFE;
  SignalSafeText& unsigned_decimal(std::uint64_t number) noexcept PAGETRAP_SIGNAL_SAFE;
  SignalSafeText& hex(std::uint64_t number) noexcept PAGETRAP_SIGNAL_SAFE;  // with 0x
  SignalSafeText& pointer(const void* address) noexcept PAGETRAP_SIGNAL_SAFE;
  SignalSafeText& range(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;  // [0xa, 0xb) 3 pages

  [[nodiscard]] std::string_view view() const noexcept PAGETRAP_SIGNAL_SAFE {
    return {buffer_.data(), length_};
  }

 private:
  std::array<char, 512> buffer_{};
  std::size_t length_ = 0;
};

}  // namespace v0
}  // namespace pagetrap
