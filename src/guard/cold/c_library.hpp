// Where the C library's code lies.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// Of libc and of the dynamic linker.
class CLibrary {
 public:
  void find() noexcept;
  [[nodiscard]] bool contains(std::uintptr_t pc) const noexcept {
    for (const Range& range : ranges_)
      if (pc - range.begin < range.size) return true;
    return false;
  }

 private:
  struct Range {
    std::uintptr_t begin = 0;
    std::size_t size = 0;
  };
  std::array<Range, 2> ranges_{};
};

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
