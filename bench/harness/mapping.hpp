// Plain memory for the rivals' side.
#pragma once

#include <cstddef>

namespace pagetrap::bench {

/// Owns an anonymous private mapping in 4 KiB pages (huge pages off, as on our side, unless a
/// question says otherwise). Throws std::system_error: a measurement cannot go on without.
class Mapping {
 public:
  explicit Mapping(std::size_t size_bytes);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size_bytes() const noexcept { return size_bytes_; }
  [[nodiscard]] std::byte* page(std::size_t index) const noexcept;

  /// Let go of the memory early. Idempotent.
  void unmap() noexcept;

 private:
  std::byte* data_ = nullptr;
  std::size_t size_bytes_ = 0;
};

/// Give every page contents of its own, by a write to each: the same for both sides.
void populate(std::byte* data, std::size_t size_bytes);

/// One store to the page, that no compiler removes or moves.
inline void write_to(std::byte* address, unsigned char value = 1) noexcept {
  *reinterpret_cast<volatile unsigned char*>(address) = value;
}

/// One load from the page, that no compiler removes or moves.
inline unsigned char read_from(const std::byte* address) noexcept {
  return *reinterpret_cast<const volatile unsigned char*>(address);
}

/// How many mappings this process has.
std::size_t count_mappings();

}  // namespace pagetrap::bench
