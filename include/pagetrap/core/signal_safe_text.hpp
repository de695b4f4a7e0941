// Text for places where printf may not be called: built in a fixed buffer, for one write(2).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {

namespace signal_safe {

/// A buffer, and how much of it is used.
struct Room {
  char* buffer;
  std::size_t capacity;
  std::size_t& length;
};
PAGETRAP_API void put_text(Room room, std::string_view words) noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API void put_number(Room room, std::uint64_t number, unsigned base) noexcept
    PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API void put_range(Room room, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API void put_quoted(Room room, std::string_view words) noexcept PAGETRAP_SIGNAL_SAFE;
PAGETRAP_API void put_spaces_to(Room room, std::size_t column) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace signal_safe

/// Text of at most `Capacity` bytes, built without allocation. What does not fit is cut and the
/// text ends in "..."; nothing is ever written past the buffer. Signal-safe; not shared between
/// threads. More than a few lines need static storage: a signal stack has no room for them.
template <std::size_t Capacity>
class BasicSignalSafeText {
 public:
  BasicSignalSafeText& text(std::string_view words) noexcept PAGETRAP_SIGNAL_SAFE {
    signal_safe::put_text(room(), words);
    return *this;
  }
  BasicSignalSafeText& decimal(std::int64_t number) noexcept PAGETRAP_SIGNAL_SAFE {
    if (number >= 0) return unsigned_decimal(static_cast<std::uint64_t>(number));
    // Negated as unsigned: the most negative number has no positive twin.
    return text("-").unsigned_decimal(0 - static_cast<std::uint64_t>(number));
  }
  BasicSignalSafeText& unsigned_decimal(std::uint64_t number) noexcept PAGETRAP_SIGNAL_SAFE {
    signal_safe::put_number(room(), number, 10);
    return *this;
  }
  /// With 0x.
  BasicSignalSafeText& hex(std::uint64_t number) noexcept PAGETRAP_SIGNAL_SAFE {
    signal_safe::put_number(room(), number, 16);
    return *this;
  }
  BasicSignalSafeText& pointer(const void* address) noexcept PAGETRAP_SIGNAL_SAFE {
    return hex(reinterpret_cast<std::uintptr_t>(address));
  }
  /// [0xa, 0xb) 3 pages
  BasicSignalSafeText& range(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
    signal_safe::put_range(room(), range);
    return *this;
  }
  /// In quotes, as JSON wants it.
  BasicSignalSafeText& quoted(std::string_view words) noexcept PAGETRAP_SIGNAL_SAFE {
    signal_safe::put_quoted(room(), words);
    return *this;
  }
  /// Spaces, until the line is as long.
  BasicSignalSafeText& pad_to(std::size_t column) noexcept PAGETRAP_SIGNAL_SAFE {
    signal_safe::put_spaces_to(room(), column);
    return *this;
  }

  [[nodiscard]] std::string_view view() const noexcept PAGETRAP_SIGNAL_SAFE {
    return {buffer_.data(), length_};
  }
  void clear() noexcept PAGETRAP_SIGNAL_SAFE { length_ = 0; }

 private:
  signal_safe::Room room() noexcept PAGETRAP_SIGNAL_SAFE {
    return {buffer_.data(), Capacity, length_};
  }
  std::array<char, Capacity> buffer_{};
  std::size_t length_ = 0;
};

/// A line.
using SignalSafeText = BasicSignalSafeText<512>;

}  // namespace v0
}  // namespace pagetrap
