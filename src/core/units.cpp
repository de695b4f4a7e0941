#include <pagetrap/core/units.hpp>

#include <unistd.h>

#include <bit>

namespace pagetrap {
inline namespace v0 {

std::size_t detail::page_size_value = 0;
unsigned detail::page_shift_value = 0;

namespace {

// Priority 101, the first that users may have: constructors of other translation units may create
// regions.
[[gnu::constructor(101)]] void read_page_size() noexcept {
  const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  detail::page_size_value = size;
  detail::page_shift_value = static_cast<unsigned>(std::countr_zero(size));
}

}  // namespace
}  // namespace v0
}  // namespace pagetrap
