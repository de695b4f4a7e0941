// Reader: the numbers that .eh_frame is made of.
// SOURCE DWARF 5, section 7.6 (LEB128); Linux Standard Base, encodings of pointers.
#pragma once

#include <cstdint>
#include <cstring>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

using Byte = unsigned char;

template <class T>
T load(const Byte* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// A cursor over bytes that the linker wrote.
class Reader {
 public:
  Reader(const Byte* from, const Byte* end) noexcept : at_(from), end_(end) {}
  [[nodiscard]] bool more() const noexcept { return at_ < end_; }
  [[nodiscard]] const Byte* at() const noexcept { return at_; }
  void skip(std::uint64_t count) noexcept { at_ += count; }
  Byte byte() noexcept { return *at_++; }
  template <class T>
  T fixed() noexcept {
    const T value = load<T>(at_);
    at_ += sizeof(T);
    return value;
  }
  std::uint64_t unsigned_leb() noexcept {
    std::uint64_t value = 0;
    for (unsigned shift = 0; at_ < end_; shift += 7) {
      const Byte part = *at_++;
      if (shift < 64) value |= std::uint64_t{part & 0x7fU} << shift;
      if ((part & 0x80) == 0) break;
    }
    return value;
  }
  std::int64_t signed_leb() noexcept {
    std::uint64_t value = 0;
    unsigned shift = 0;
    while (at_ < end_) {
      const Byte part = *at_++;
      if (shift < 64) value |= std::uint64_t{part & 0x7fU} << shift;
      shift += 7;
      if ((part & 0x80) != 0) continue;
      if ((part & 0x40) != 0 && shift < 64) value |= ~std::uint64_t{0} << shift;
      break;
    }
    return static_cast<std::int64_t>(value);
  }

 private:
  const Byte* at_;
  const Byte* end_;
};

// Pointer encodings (DW_EH_PE_).
inline constexpr Byte kPcRelative = 0x10;
inline constexpr Byte kOmitted = 0xff;

// `known` is false for an encoding that compilers do not use here.
inline std::uintptr_t encoded(Reader& from, Byte encoding, bool& known) noexcept {
  const auto here = reinterpret_cast<std::uintptr_t>(from.at());
  std::uintptr_t value = 0;
  switch (encoding & 0x0f) {
    case 0x00:  // absptr
    case 0x04:  // udata8
    case 0x0c:  // sdata8
      value = from.fixed<std::uint64_t>();
      break;
    case 0x03:  // udata4
      value = from.fixed<std::uint32_t>();
      break;
    case 0x0b:  // sdata4
      value = static_cast<std::uintptr_t>(std::int64_t{from.fixed<std::int32_t>()});
      break;
    default:
      known = false;
      return 0;
  }
  if ((encoding & 0x70) == kPcRelative) value += here;
  return value;
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
