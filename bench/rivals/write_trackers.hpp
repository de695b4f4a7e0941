// Finding written pages by write-protect traps, by hand: a list that the handler appends to.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <pagetrap/core/units.hpp>

#include "rivals/mprotect_trap.hpp"
#include "rivals/uffd_trap.hpp"

namespace pagetrap::bench::rivals {

/// DIRTY over all of `Trap`'s memory, for one thread.
template <class Trap>
class WriteTracker {
 public:
  static constexpr const char* kName = Trap::kName;

  explicit WriteTracker(std::size_t size_bytes)
      : trap_(size_bytes), size_bytes_(size_bytes), list_(size_bytes / 4096 + 1) {
    trap_.record_into(list_.data());
    trap_.protect(trap_.page(0), size_bytes_);
  }
  ~WriteTracker() { trap_.record_into(nullptr); }
  WriteTracker(const WriteTracker&) = delete;
  WriteTracker& operator=(const WriteTracker&) = delete;

  [[nodiscard]] Trap& trap() noexcept { return trap_; }
  [[nodiscard]] std::byte* page(std::size_t index) const noexcept { return trap_.page(index); }

  /// Pages written since the last forget.
  [[nodiscard]] std::span<std::byte* const> written() const noexcept {
    return {list_.data(), Trap::recorded()};
  }

  /// The two ways to arm again: each written page by itself, or all in one call. Which is faster
  /// depends on how many there are; measure.
  void rearm_each() noexcept {
    for (std::byte* const page : written()) trap_.protect(page, page_size());
    Trap::forget_recorded();
  }
  void rearm_whole() noexcept {
    if (!written().empty()) trap_.protect(trap_.page(0), size_bytes_);
    Trap::forget_recorded();
  }

 private:
  Trap trap_;
  std::size_t size_bytes_;
  std::vector<std::byte*> list_;
};

}  // namespace pagetrap::bench::rivals
