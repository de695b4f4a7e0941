#include <pagetrap/core/signal_safe_text.hpp>

namespace pagetrap {
inline namespace v0 {
namespace {

constexpr std::size_t kCapacity = 512;
constexpr std::string_view kCut = "...";

// Digits of `number` in `base`, written backwards from the end of `digits`; returns where they
// start.
template <std::size_t N>
std::string_view digits_of(std::uint64_t number, unsigned base,
                           std::array<char, N>& digits) noexcept PAGETRAP_SIGNAL_SAFE {
  std::size_t start = N;
  do {
    digits[--start] = "0123456789abcdef"[number % base];
    number /= base;
  } while (number != 0);
  return {digits.data() + start, N - start};
}

}  // namespace

SignalSafeText& SignalSafeText::text(std::string_view words) noexcept PAGETRAP_SIGNAL_SAFE {
  for (const char c : words) {
    if (length_ == kCapacity) {
      for (std::size_t i = 0; i < kCut.size(); ++i) buffer_[length_ - kCut.size() + i] = kCut[i];
      return *this;
    }
    buffer_[length_++] = c;
  }
  return *this;
}

SignalSafeText& SignalSafeText::unsigned_decimal(std::uint64_t number) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::array<char, 20> digits;
  return text(digits_of(number, 10, digits));
}

SignalSafeText& SignalSafeText::decimal(std::int64_t number) noexcept PAGETRAP_SIGNAL_SAFE {
  if (number >= 0) return unsigned_decimal(static_cast<std::uint64_t>(number));
  // Negated as unsigned: the most negative number has no positive twin.
  return text("-").unsigned_decimal(0 - static_cast<std::uint64_t>(number));
}

SignalSafeText& SignalSafeText::hex(std::uint64_t number) noexcept PAGETRAP_SIGNAL_SAFE {
  std::array<char, 16> digits;
  return text("0x").text(digits_of(number, 16, digits));
}

SignalSafeText& SignalSafeText::pointer(const void* address) noexcept PAGETRAP_SIGNAL_SAFE {
  return hex(reinterpret_cast<std::uintptr_t>(address));
}

SignalSafeText& SignalSafeText::range(PageRange range) noexcept PAGETRAP_SIGNAL_SAFE {
  return text("[")
      .pointer(range.base)
      .text(", ")
      .pointer(range.end())
      .text(") ")
      .unsigned_decimal(range.length.count())
      .text(range.length.count() == 1 ? " page" : " pages");
}

}  // namespace v0
}  // namespace pagetrap
