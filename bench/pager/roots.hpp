// The table of square roots as both the pager's region and its twin read it.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>

#include <pagetrap/pager/pager.hpp>

#include "harness/report.hpp"

namespace pagetrap::bench {

inline constexpr std::size_t kTableBytes = std::size_t{1} << 34;  // 16 GiB of addresses
inline constexpr std::size_t kTablePages = 256;                   // of which these may exist

inline std::uint64_t roots_per_page() { return page_size() / sizeof(double); }

inline auto roots() {
  return pager::computed([](std::uint64_t page, std::byte* bytes) noexcept {
    auto* const root = reinterpret_cast<double*>(bytes);
    const std::uint64_t count = roots_per_page();
    for (std::uint64_t i = 0; i < count; ++i)
      root[i] = std::sqrt(static_cast<double>(page * count + i));
  });
}
using Roots = decltype(roots());

/// splitmix64
inline std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = state += 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

/// The pager's table. `helper`: reads ahead from a second CPU.
class PagedTable {
 public:
  explicit PagedTable(bool helper, std::size_t pages = kTablePages)
      : pager_(pager::Pager::create({.budget_bytes = bytes(Pages{pages}), .helper_thread = helper})
                   .value()),
        region_(pager::Region::create(*pager_, kTableBytes, source_).value()) {}

  [[nodiscard]] const volatile double* entries() const noexcept {
    return reinterpret_cast<const volatile double*>(region_.data());
  }
  [[nodiscard]] pager::Region& region() noexcept { return region_; }

 private:
  Roots source_ = roots();
  std::unique_ptr<pager::Pager> pager_;
  pager::Region region_;
};

/// The sum of `pages` whole pages from `first` on; what it must be, nearly.
template <class Table>
double sum_pages(Table&& table, std::uint64_t first, std::uint64_t pages) {
  double sum = 0;
  const std::uint64_t end = (first + pages) * roots_per_page();
  for (std::uint64_t i = first * roots_per_page(); i < end; ++i) sum += table[i];
  return sum;
}

inline void check_sum(Report& report, double sum, std::uint64_t first, std::uint64_t pages) {
  double right = 0;
  const std::uint64_t end = (first + pages) * roots_per_page();
  for (std::uint64_t i = first * roots_per_page(); i < end; ++i)
    right += std::sqrt(static_cast<double>(i));
  report.check(sum == right, "the table's roots are wrong");
}

}  // namespace pagetrap::bench
