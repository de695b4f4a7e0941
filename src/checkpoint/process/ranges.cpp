#include "checkpoint/process/ranges.hpp"

#include <algorithm>
#include <utility>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

Runs tidy(Runs runs) {
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.start < b.start; });
  Runs tidied;
  for (const Run& run : runs) {
    if (run.end <= run.start) continue;
    if (!tidied.empty() && run.start <= tidied.back().end) {
      tidied.back().end = std::max(tidied.back().end, run.end);
    } else {
      tidied.push_back(run);
    }
  }
  return tidied;
}

Runs unite(const Runs& a, const Runs& b) {
  Runs both = a;
  both.insert(both.end(), b.begin(), b.end());
  return tidy(std::move(both));
}

Runs intersect(const Runs& a, const Runs& b) {
  Runs common;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const std::uint64_t start = std::max(a[i].start, b[j].start);
    const std::uint64_t end = std::min(a[i].end, b[j].end);
    if (start < end) common.push_back({start, end});
    if (a[i].end < b[j].end) {
      ++i;
    } else {
      ++j;
    }
  }
  return common;
}

Runs subtract(const Runs& a, const Runs& b) {
  Runs left;
  std::size_t j = 0;
  for (const Run& run : a) {
    std::uint64_t at = run.start;
    while (j < b.size() && b[j].end <= at) ++j;
    for (std::size_t k = j; k < b.size() && b[k].start < run.end; ++k) {
      if (b[k].start > at) left.push_back({at, b[k].start});
      at = std::max(at, b[k].end);
    }
    if (at < run.end) left.push_back({at, run.end});
  }
  return left;
}

std::uint64_t size_bytes(const Runs& runs) {
  std::uint64_t sum = 0;
  for (const Run& run : runs) sum += run.end - run.start;
  return sum;
}

std::uint64_t find_hole(Runs taken, std::uint64_t bytes) {
  constexpr std::uint64_t kFirst = 0x100000000000;
  constexpr std::uint64_t kHighest = 0x7ffffffff000;  // TASK_SIZE of x86-64
  constexpr std::uint64_t kDistance = 0x200000;       // what lies above may grow down
  taken = tidy(std::move(taken));
  std::uint64_t at = kFirst;
  for (const Run& run : taken) {
    if (run.end <= at) continue;
    if (run.start >= at + bytes + kDistance) break;
    at = (run.end + kDistance - 1) & ~(kDistance - 1);
  }
  return at + bytes <= kHighest ? at : 0;
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
