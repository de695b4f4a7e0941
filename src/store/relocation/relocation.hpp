// Relocation: a store that is mapped at another address than its file records. Two ranges, of which
// addresses are exchanged.
#pragma once

#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace store {

class Relocation {
 public:
  /// `home` and `here` are where the ranges begin: what the process has in front of the data is
  /// part of them. Precondition: they do not overlap, and there is a gap between them.
  Relocation(std::uint64_t home, std::uint64_t here, std::uint64_t length) noexcept
      : home_(home), here_(here), length_(length) {}

  /// An address in one range becomes the same place in the other; what is in neither stays. Done
  /// twice it changes nothing, whatever the word was: so a word that is taken for a pointer by
  /// mistake is damaged while the store is mapped elsewhere, and never in the file.
  [[nodiscard]] std::uint64_t exchange(std::uint64_t word) const noexcept PAGETRAP_SIGNAL_SAFE {
    // One unsigned comparison each: what is below wraps around. The end is a pointer, too.
    if (word - home_ <= length_) return word - home_ + here_;
    if (word - here_ <= length_) return word - here_ + home_;
    return word;
  }

 private:
  std::uint64_t home_;
  std::uint64_t here_;
  std::uint64_t length_;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
