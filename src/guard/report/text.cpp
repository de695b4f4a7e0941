#include "guard/report/text.hpp"

#include <algorithm>
#include <cstring>

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

std::string_view digits(std::uint64_t value, unsigned base, std::array<char, 20>& room) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::size_t at = room.size();
  do {
    room[--at] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value != 0);
  return {room.data() + at, room.size() - at};
}

}  // namespace

Text& Text::add(std::string_view words) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t fits = std::min(words.size(), buffer_.size() - length_);
  std::memcpy(buffer_.data() + length_, words.data(), fits);
  length_ += fits;
  return *this;
}

Text& Text::number(std::uint64_t value) noexcept PAGETRAP_SIGNAL_SAFE {
  std::array<char, 20> room;
  return add(digits(value, 10, room));
}

Text& Text::hex(std::uint64_t value) noexcept PAGETRAP_SIGNAL_SAFE {
  std::array<char, 20> room;
  return add("0x").add(digits(value, 16, room));
}

Text& Text::pad_to(std::size_t column) noexcept PAGETRAP_SIGNAL_SAFE {
  std::size_t start = length_;
  while (start > 0 && buffer_[start - 1] != '\n') --start;
  while (length_ - start < column && length_ < buffer_.size()) buffer_[length_++] = ' ';
  return *this;
}

Text& Text::quoted(std::string_view words) noexcept PAGETRAP_SIGNAL_SAFE {
  add("\"");
  for (const char c : words) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      add("\\").add({&c, 1});
    } else if (code < 0x20) {
      const char escaped[] = {
          '\\', 'u', '0', '0', "0123456789abcdef"[code >> 4], "0123456789abcdef"[code & 15]};
      add({escaped, sizeof escaped});
    } else {
      add({&c, 1});
    }
  }
  return add("\"");
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
