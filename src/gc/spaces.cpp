#include "gc/spaces.hpp"

#include <sys/mman.h>

#include <cerrno>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace {

constexpr std::size_t kSubtree = std::size_t{1} << 30;  // what a lift moves in one step

std::size_t whole_subtrees(std::size_t size) { return (size + kSubtree - 1) & ~(kSubtree - 1); }

PageSpan take(PageIndex& next, std::size_t size_bytes) {
  const PageSpan span{next, next + static_cast<PageIndex>(size_bytes / kPageBytes)};
  next = span.end;
  return span;
}

// A place where `size` bytes are free. RACE somebody may take it before it is mapped: EEXIST then,
// and another place is looked for.
Result<std::byte*> find_place(std::size_t size) {
  sys::Mapping::Request request;
  request.size_bytes = size;
  request.prot = PROT_NONE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  request.alignment = kSubtree;
  auto place = sys::Mapping::create(request);
  if (!place) return place.error();
  return place->data();
}

}  // namespace

Outcome Spaces::create(std::size_t limit_bytes, std::size_t nursery_bytes, PageSupply which) {
  // Survivors are there twice while they are copied, and pages are not always full. A new object of
  // any size up to the limit has its place beside what fragments large objects.
  const std::size_t small = whole_subtrees(3 * limit_bytes);
  const std::size_t runs = whole_subtrees(2 * limit_bytes);
  // What threads allocate while a cycle runs, and pages that are pinned; and it may grow.
  const std::size_t young = bytes(pages_for(4 * nursery_bytes + 64_MiB + limit_bytes / 2));
  PageIndex next = 0;
  old = take(next, small);
  large = take(next, runs);
  leaf = take(next, small);
  large_leaf = take(next, runs);
  nursery = take(next, young);
  size_ = std::size_t{next} * kPageBytes;
  supplied_bytes_ = std::size_t{large.end} * kPageBytes;

  sys::Mapping::Request request;
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  for (int attempts = 0; supplier_ == nullptr; ++attempts) {
    const auto place = find_place(size_);
    if (!place) return place.error();
    request.size_bytes = size_ - supplied_bytes_;
    request.address = *place + supplied_bytes_;
    auto plain = sys::Mapping::create(request);
    if (!plain && plain.error().number == EEXIST && attempts < 16) continue;
    if (!plain) return plain.error();
    auto supplier = make_supplier(which, *place, supplied_bytes_);
    if (!supplier && supplier.error().number == EEXIST && attempts < 16) continue;
    if (!supplier) return supplier.error();
    plain_ = std::move(*plain);
    supplier_ = std::move(*supplier);
    base_ = *place;
  }
  view_ = supplier_->view();
  sys::name_mapping(plain_.range(), "pagetrap:gc");
  // Pages of the nursery are used again all the time, and all of them: large ones are touched
  // faster. Where there are none it does without.
  sys::advise({base_ + std::size_t{nursery.begin} * kPageBytes, Pages{nursery.size()}},
              MADV_HUGEPAGE);

  request.size_bytes = bytes(pages_for(next * sizeof(PageInfo)));
  request.address = nullptr;
  auto table = sys::Mapping::create(request);
  if (!table) return table.error();
  table_ = std::move(*table);
  sys::name_mapping(table_.range(), "pagetrap:gc-pages");
  pages_ = reinterpret_cast<PageInfo*>(table_.data());
  return kDone;
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
