// XXH3, the checksum of images and the key by which equal blocks are found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

/// 128 bits. Of anything that is longer than 240 bytes, as every page is, `low` is checksum() with
/// the same seed: one pass serves both.
struct ContentHash {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  bool operator==(const ContentHash&) const = default;
};

std::uint64_t checksum(std::span<const std::byte> bytes, std::uint64_t seed = 0) noexcept;
ContentHash content_hash(std::span<const std::byte> bytes, std::uint64_t seed) noexcept;

/// checksum() with seed 0 of what is added, in pieces.
class RunningChecksum {
 public:
  RunningChecksum();  // may throw std::bad_alloc
  ~RunningChecksum();
  RunningChecksum(const RunningChecksum&) = delete;
  RunningChecksum& operator=(const RunningChecksum&) = delete;
  void add(std::span<const std::byte> bytes) noexcept;
  [[nodiscard]] std::uint64_t value() const noexcept;

 private:
  struct State;
  State* state_;
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
