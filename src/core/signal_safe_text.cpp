#include <pagetrap/core/signal_safe_text.hpp>

#include <algorithm>

namespace pagetrap {
inline namespace v0 {
namespace signal_safe {
namespace {

constexpr std::string_view kCut = "...";
constexpr char kDigits[] = "0123456789abcdef";

}  // namespace

void put_text(Room room, std::string_view words) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t fits = std::min(words.size(), room.capacity - room.length);
  for (std::size_t i = 0; i < fits; ++i) room.buffer[room.length + i] = words.data()[i];
  room.length += fits;
  if (fits == words.size()) return;
  char* const end = room.buffer + room.capacity - kCut.size();
  for (std::size_t i = 0; i < kCut.size(); ++i) end[i] = kCut[i];
}

// Digits are found from the last one on.
void put_number(Room room, std::uint64_t number, unsigned base) noexcept PAGETRAP_SIGNAL_SAFE {
  std::array<char, 20> digits;
  std::size_t start = digits.size();
  do {
    digits[--start] = kDigits[number % base];
    number /= base;
  } while (number != 0);
  if (base == 16) put_text(room, "0x");
  put_text(room, {digits.data() + start, digits.size() - start});
}

void put_range(Room room, PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  const auto number = [](const void* at) noexcept PAGETRAP_SIGNAL_SAFE {
    return std::uint64_t{reinterpret_cast<std::uintptr_t>(at)};
  };
  put_text(room, "[");
  put_number(room, number(range.base), 16);
  put_text(room, ", ");
  put_number(room, number(range.end()), 16);
  put_text(room, ") ");
  put_number(room, range.length.count(), 10);
  put_text(room, range.length.count() == 1 ? " page" : " pages");
}

void put_quoted(Room room, std::string_view words) noexcept PAGETRAP_SIGNAL_SAFE {
  put_text(room, "\"");
  for (const char& c : words) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') put_text(room, "\\");
    if (code >= 0x20) {
      put_text(room, {&c, 1});
    } else {
      const char escaped[] = {'\\', 'u', '0', '0', kDigits[code >> 4], kDigits[code & 15]};
      put_text(room, {escaped, sizeof escaped});
    }
  }
  put_text(room, "\"");
}

void put_spaces_to(Room room, std::size_t column) noexcept PAGETRAP_SIGNAL_SAFE {
  std::size_t start = room.length;
  while (start > 0 && room.buffer[start - 1] != '\n') --start;
  while (room.length - start < column && room.length < room.capacity)
    room.buffer[room.length++] = ' ';
}

}  // namespace signal_safe
}  // namespace v0
}  // namespace pagetrap
