// What the collector knows of a type, and the word before each object that leads to it.
#pragma once

#include <cstddef>
#include <cstdint>

#include <pagetrap/core/config.hpp>
#include <pagetrap/gc/options.hpp>

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace detail {

/// Where an object has its references.
enum class Layout : std::uint8_t {
  leaf,        // nowhere
  fields,      // in the words that Type::fields names
  references,  // in every word but the first: gc::array<gc::ref<T>>
};

/// One for each type, for ever.
struct Type {
  Layout layout = Layout::leaf;
  std::uint32_t field_count = 0;
  const std::uint32_t* fields = nullptr;  // in words, from the object's first byte, ascending
  void (*destroy)(void* object) noexcept = nullptr;  // null: nothing to do
  Barriers barriers = Barriers::pages;               // of its references
};

/// The word before each object: its type's address, its size in words (header included; 0: a large
/// object, whose pages know), and a bit that is 1. A forwarded object has its new address there,
/// whose lowest bit is 0.
class Header {
 public:
  static constexpr std::size_t kBytes = 8;
  /// A page of 4 KiB: larger objects have pages of their own.
  static constexpr std::size_t kLargestSmall = 4096;

  constexpr Header() noexcept = default;
  constexpr explicit Header(std::uint64_t word) noexcept : word_(word) {}
  Header(const Type& type, std::size_t size_bytes) noexcept
      : word_(reinterpret_cast<std::uint64_t>(&type) << 16 |
              (size_bytes <= kLargestSmall ? size_bytes / 8 : 0) << 1 | 1) {}

  [[nodiscard]] constexpr std::uint64_t word() const noexcept PAGETRAP_SIGNAL_SAFE { return word_; }
  [[nodiscard]] constexpr bool forwarded() const noexcept PAGETRAP_SIGNAL_SAFE {
    return (word_ & 1) == 0;
  }
  [[nodiscard]] const Type& type() const noexcept PAGETRAP_SIGNAL_SAFE {
    return *reinterpret_cast<const Type*>(word_ >> 16);
  }
  [[nodiscard]] constexpr std::size_t size_bytes() const noexcept PAGETRAP_SIGNAL_SAFE {
    return (word_ >> 1 & 0x3ff) * 8;
  }

 private:
  std::uint64_t word_ = 0;
};

/// What an object of `size` bytes takes.
constexpr std::size_t footprint(std::size_t size) noexcept {
  return Header::kBytes + (size == 0 ? 8 : (size + 7) / 8 * 8);
}

}  // namespace detail
}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
