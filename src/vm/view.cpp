#include <pagetrap/vm/view.hpp>

#include <sys/mman.h>

#include <utility>

#include "sys/mapping.hpp"
#include "sys/protection_key.hpp"
#include "sys/signal_safe_calls.hpp"
#include "vm/region_state.hpp"

namespace pagetrap {
inline namespace v0 {
namespace {

int prot_for(Access access) noexcept {
  if (access == Access::read_write) return PROT_READ | PROT_WRITE;
  return access == Access::read ? PROT_READ : PROT_NONE;
}

// An adopted shared mapping has no descriptor of ours: mremap with an old size of 0 makes a second
// mapping of it (mremap(2): "if the value of old_size is zero, and old_address refers to a
// shareable mapping").
Result<PageRange> map_alias(const RegionState& state, Access access) {
  void* const alias = ::mremap(state.range.base, 0, state.range.size_bytes(), MREMAP_MAYMOVE);
  if (alias == MAP_FAILED)
    return Error{"mremap to a second view", errno, state.range,
                 "the adopted range must be one shared mapping"};
  sys::Mapping mapping(PageRange{static_cast<std::byte*>(alias), state.range.length});
  // It has the region's protection key as well, and rights of its own are the point of it.
  const int error = state.key >= 0 ? sys::tag(mapping.range(), prot_for(access), 0)
                                   : sys::change_protection(mapping.range(), prot_for(access));
  if (error != 0) return Error{"mprotect of a second view", error, mapping.range()};
  return mapping.release();
}

Result<PageRange> map_file(const RegionState& state, Access access) {
  sys::Mapping::Request request;
  request.size_bytes = state.range.size_bytes();
  request.prot = prot_for(access);
  request.flags = MAP_SHARED | MAP_NORESERVE;
  request.descriptor = state.memory_file;
  request.offset = state.memory_offset;
  auto mapping = sys::Mapping::create(request);
  if (!mapping) return mapping.error();
  return mapping->release();
}

}  // namespace

Result<View> Region::map_twice(Access access) {
  if (state_ == nullptr) return Error{"map_twice", EBADF, {}, "the Region is empty"};
  if (state_->options.backing == Backing::anonymous)
    return Error{"map_twice", ENOTSUP, state_->range,
                 "private memory cannot be mapped twice: use Backing::memfd, or a Window"};
  const auto range =
      state_->memory_file >= 0 ? map_file(*state_, access) : map_alias(*state_, access);
  if (!range) return range.error();
  return View(*range, state_->range.base);
}

View::~View() {
  if (!range_.empty()) ::munmap(range_.base, range_.size_bytes());
}

View::View(View&& other) noexcept
    : range_(std::exchange(other.range_, PageRange{})), region_base_(other.region_base_) {}

View& View::operator=(View&& other) noexcept {
  if (this != &other) {
    if (!range_.empty()) ::munmap(range_.base, range_.size_bytes());
    range_ = std::exchange(other.range_, PageRange{});
    region_base_ = other.region_base_;
  }
  return *this;
}

}  // namespace v0
}  // namespace pagetrap
