#include "gc/large.hpp"

#include <algorithm>

namespace pagetrap {
inline namespace v0 {
namespace gc {

PageIndex LargeObjects::take(std::size_t pages) {
  const std::lock_guard guard(lock_);
  for (auto run = free_.begin(); run != free_.end(); ++run) {
    if (run->second < pages) continue;
    const PageIndex first = run->first;
    const std::size_t left = run->second - pages;
    free_.erase(run);
    if (left != 0) free_.emplace(first + static_cast<PageIndex>(pages), left);
    in_use_.fetch_add(pages, std::memory_order_relaxed);
    const PageIndex end = first + static_cast<PageIndex>(pages);
    if (end > wild_.load(std::memory_order_relaxed)) wild_.store(end, std::memory_order_release);
    return first;
  }
  return kNoPage;
}

void LargeObjects::add(PageIndex first) {
  const std::lock_guard guard(lock_);
  heads_.push_back(first);
}

void LargeObjects::give(PageIndex first, std::size_t pages) {
  const std::lock_guard guard(lock_);
  in_use_.fetch_sub(pages, std::memory_order_relaxed);
  auto run = free_.emplace(first, pages).first;
  const auto next = std::next(run);
  if (next != free_.end() && run->first + run->second == next->first) {
    run->second += next->second;
    free_.erase(next);
  }
  if (run == free_.begin()) return;
  const auto before = std::prev(run);
  if (before->first + before->second == run->first) {
    before->second += run->second;
    free_.erase(run);
  }
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
