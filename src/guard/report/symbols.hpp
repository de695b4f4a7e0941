// Symbols: from return addresses to modules and offsets here, and to functions and lines by another
// process, since finding those allocates and reads files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <pagetrap/core/config.hpp>

#include "guard/report/finding.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {

struct Place {
  std::string_view module;    // a path; empty: not in any
  std::uintptr_t offset = 0;  // in it, or the address itself
};
/// Borrowed from the loader: good while the module is loaded.
Place place_of(std::uintptr_t address) noexcept PAGETRAP_SIGNAL_SAFE;

/// What the symboliser answered, frame by frame, for up to three stacks.
class Symbols {
 public:
  constexpr Symbols() = default;
  static constexpr std::size_t kNone = ~std::size_t{0};
  /// The frames are returns, but for the first one of stack `interrupted`.
  void ask(const char* symboliser, const Frames* const* stacks, std::size_t count,
           std::size_t interrupted) noexcept PAGETRAP_SIGNAL_SAFE;
  /// "function (file:line)", or empty.
  [[nodiscard]] std::string_view of(std::size_t stack, std::size_t frame) const noexcept
      PAGETRAP_SIGNAL_SAFE;

 private:
  std::array<std::array<std::string_view, kMostFrames>, 3> lines_{};
};

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
