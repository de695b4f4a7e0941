// Units that cannot be confused: a count of pages is never a count of bytes.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {

namespace detail {
// Set before any other initialiser runs, never changed after. Use the functions below.
extern PAGETRAP_API std::size_t page_size_value;
extern PAGETRAP_API unsigned page_shift_value;
}  // namespace detail

/// The kernel's page size in bytes, a power of two: 4096 on x86-64, known to the compiler; 4, 16 or
/// 64 KiB on aarch64, read at run time. Signal-safe.
inline std::size_t page_size() noexcept PAGETRAP_SIGNAL_SAFE {
  if constexpr (detail::kKnownPageShift != 0) return std::size_t{1} << detail::kKnownPageShift;
  return detail::page_size_value;
}

/// log2(page_size()). Signal-safe.
inline unsigned page_shift() noexcept PAGETRAP_SIGNAL_SAFE {
  if constexpr (detail::kKnownPageShift != 0) return detail::kKnownPageShift;
  return detail::page_shift_value;
}

/// A count of pages; never a count of bytes. The constructor is explicit because an aggregate would
/// let PageRange{p, n_bytes} compile silently (brace elision).
class Pages {
 public:
  constexpr Pages() = default;
  constexpr explicit Pages(std::size_t count) noexcept : count_(count) {}
  [[nodiscard]] constexpr std::size_t count() const noexcept PAGETRAP_SIGNAL_SAFE { return count_; }
  friend constexpr auto operator<=>(const Pages&, const Pages&) noexcept = default;

 private:
  std::size_t count_ = 0;
};

/// Bytes in `pages`.
inline std::size_t bytes(Pages pages) noexcept PAGETRAP_SIGNAL_SAFE {
  return pages.count() << page_shift();
}

/// The fewest pages that hold `byte_count` bytes. Saturates instead of wrapping.
inline Pages pages_for(std::size_t byte_count) noexcept PAGETRAP_SIGNAL_SAFE {
  const std::size_t whole = byte_count >> page_shift();
  return Pages{whole + ((byte_count & (page_size() - 1)) != 0 ? 1 : 0)};
}

inline constexpr std::size_t operator""_KiB(unsigned long long n) noexcept { return n << 10; }
inline constexpr std::size_t operator""_MiB(unsigned long long n) noexcept { return n << 20; }
inline constexpr std::size_t operator""_GiB(unsigned long long n) noexcept { return n << 30; }
inline constexpr std::size_t operator""_TiB(unsigned long long n) noexcept { return n << 40; }

/// A page-aligned run of pages. Checked once, where it is made; the fault path relies on it and
/// does not check again. Trivially copyable, owns nothing.
struct PageRange {
  std::byte* base = nullptr;  // page-aligned
  Pages length;

  [[nodiscard]] std::size_t size_bytes() const noexcept PAGETRAP_SIGNAL_SAFE {
    return bytes(length);
  }
  [[nodiscard]] std::byte* end() const noexcept PAGETRAP_SIGNAL_SAFE { return base + size_bytes(); }
  [[nodiscard]] bool empty() const noexcept PAGETRAP_SIGNAL_SAFE { return length.count() == 0; }
  [[nodiscard]] bool contains(const void* p) const noexcept PAGETRAP_SIGNAL_SAFE {
    // One unsigned compare: an address below base wraps to a huge offset. As integers, since
    // subtracting unrelated pointers is undefined.
    return reinterpret_cast<std::uintptr_t>(p) - reinterpret_cast<std::uintptr_t>(base) <
           size_bytes();
  }
  [[nodiscard]] bool contains(PageRange inner) const noexcept PAGETRAP_SIGNAL_SAFE {
    const std::size_t offset =
        reinterpret_cast<std::uintptr_t>(inner.base) - reinterpret_cast<std::uintptr_t>(base);
    // In pages: a count too large for bytes would wrap.
    return offset <= size_bytes() &&
           inner.length.count() <= (size_bytes() - offset) >> page_shift();
  }
  friend bool operator==(const PageRange&, const PageRange&) noexcept = default;
};

/// The page that holds `address`.
inline PageRange page_of(const void* address) noexcept PAGETRAP_SIGNAL_SAFE {
  const auto bits = reinterpret_cast<std::uintptr_t>(address) & ~(page_size() - 1);
  return {reinterpret_cast<std::byte*>(bits), Pages{1}};
}

/// The smallest run of whole pages that covers `byte_count` bytes at `address`.
inline PageRange pages_covering(const void* address, std::size_t byte_count) noexcept
    PAGETRAP_SIGNAL_SAFE {
  std::byte* const base = page_of(address).base;
  const std::size_t head = reinterpret_cast<std::uintptr_t>(address) & (page_size() - 1);
  const std::size_t whole = byte_count + head;
  return {base, pages_for(whole < head ? ~std::size_t{0} : whole)};
}

}  // namespace v0
}  // namespace pagetrap
