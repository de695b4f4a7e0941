#include "store/pages/diff.hpp"

#include <cstring>

namespace pagetrap {
inline namespace v0 {
namespace store {
namespace {

constexpr std::size_t kLine = 8;  // units in a cache line
constexpr std::size_t kJoin = 2;  // equal units that cost no more than a new run

std::uint64_t unit(const std::byte* page, std::size_t index) {
  std::uint64_t value = 0;
  std::memcpy(&value, page + index * 8, sizeof value);
  return value;
}

// Compilers make vector instructions of it.
bool same_line(const std::byte* a, const std::byte* b, std::size_t index) {
  std::uint64_t difference = 0;
  for (std::size_t i = 0; i < kLine; ++i) difference |= unit(a, index + i) ^ unit(b, index + i);
  return difference == 0;
}

}  // namespace

bool diff_page(PageNumber page, const std::byte* before, const std::byte* now, std::size_t begin,
               std::size_t end, std::vector<std::byte>& out) {
  const std::size_t size_before = out.size();
  const std::size_t units = end / 8;
  for (std::size_t i = begin / 8; i < units;) {
    if (i % kLine == 0 && i + kLine <= units && same_line(before, now, i)) {
      i += kLine;
      continue;
    }
    if (unit(before, i) == unit(now, i)) {
      ++i;
      continue;
    }
    const std::size_t first = i;
    std::size_t last = i;
    for (; i < units && i - last <= kJoin; ++i)
      if (unit(before, i) != unit(now, i)) last = i;
    const std::size_t length = (last - first + 1) * 8;
    const std::uint64_t word = Run::pack(std::uint64_t{page} * kPageBytes + first * 8, length);
    const std::size_t at = out.size();
    out.resize(at + sizeof word + length);
    std::memcpy(out.data() + at, &word, sizeof word);
    std::memcpy(out.data() + at + sizeof word, now + first * 8, length);
    i = last + 1;
  }
  return out.size() != size_before;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
