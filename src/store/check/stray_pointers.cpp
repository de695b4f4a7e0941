#include "store/check/stray_pointers.hpp"

#include <algorithm>

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

// SOURCE Documentation/arch/x86/x86_64/mm.rst; vm.mmap_min_addr is 64 KiB by default.
constexpr std::uint64_t kLeast = std::uint64_t{64} << 10;
constexpr std::uint64_t kMost = std::uint64_t{1} << 47;

std::string words_for(const sys::MappedRange& range) {
  if (range.name.empty()) return "anonymous memory, maybe a thread's stack or a large block";
  if (range.name[0] == '[') return range.name;
  return range.name + (range.executable ? ", code"
                       : range.writable ? ", variables"
                                        : ", constants");
}

}  // namespace

const sys::MappedRange* StrayPointers::find(std::uint64_t value) const noexcept {
  const auto after = std::upper_bound(
      known_.begin(), known_.end(), value,
      [](std::uint64_t address, const sys::MappedRange& range) { return address < range.end; });
  return after != known_.end() && value >= after->begin ? &*after : nullptr;
}

// What is known may be old: nobody is accused before it has been read in this transaction, and
// numbers that look like addresses cost one reading.
Result<std::string> StrayPointers::what_is_at(std::uint64_t value) {
  if (value < kLeast || value >= kMost) return std::string();
  if (!is_fresh_) {
    auto now = sys::mapped_ranges();
    if (!now) return now.error();
    known_ = std::move(*now);
    is_fresh_ = true;
  }
  const sys::MappedRange* const range = find(value);
  return range == nullptr ? std::string() : words_for(*range);
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
