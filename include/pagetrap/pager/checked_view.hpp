// CheckedView: a source's pages behind a comparison instead of a page fault. The instruction twin
// of pager::Region, for programs that can call a function for each access: a miss costs no trap, a
// hit costs an `if`. Where the break-even lies: `pagetrap bench pager`, row pager.break_even.
#pragma once

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>
#include <pagetrap/pager/source.hpp>

namespace pagetrap {
inline namespace v0 {
namespace pager {

/// `T`s read from a source, through a direct-mapped cache of pages. Reads only.
///
/// Threads  one; each thread has its own view. A source that several views share is called from
/// their
///          threads at once.
/// Signals  not safe, and needs none: the source may be one that blocks.
template <class T>
class CheckedView {
 public:
  static_assert(std::is_trivially_copyable_v<T> && std::has_single_bit(sizeof(T)),
                "an element must not straddle pages");

  /// `cached_pages` is rounded up to a power of two. The source is borrowed.
  /// Errors  EINVAL: no pages, or elements larger than a page.
  static Result<CheckedView> create(Source& source, std::size_t cached_pages) {
    if (cached_pages == 0 || sizeof(T) > page_size())
      return Error{"CheckedView::create", EINVAL, {}, "at least one page, elements within one"};
    return CheckedView(source, std::bit_ceil(cached_pages));
  }

  /// Element `index`, counted from the start of the source's first page. Throws SystemError if the
  /// source cannot fill its page.
  T operator[](std::uint64_t index) {
    const std::uint64_t page = index >> shift_;
    const std::size_t place = static_cast<std::size_t>(page) & mask_;
    if (tags_[place] != page) [[unlikely]]
      load(page, place);
    return memory_[place << shift_ | (index & in_page_)];
  }

  [[nodiscard]] std::uint64_t misses() const noexcept { return misses_; }

 private:
  static constexpr std::uint64_t kNothing = ~std::uint64_t{0};
  static unsigned elements_shift() noexcept {
    return page_shift() - static_cast<unsigned>(std::countr_zero(sizeof(T)));
  }

  CheckedView(Source& source, std::size_t pages)
      : source_(&source),
        shift_(elements_shift()),
        mask_(pages - 1),
        in_page_((std::uint64_t{1} << shift_) - 1),
        tags_(pages, kNothing),
        owned_((pages + 1) << shift_) {
    // Sources are promised pages that are aligned.
    const auto start = reinterpret_cast<std::uintptr_t>(owned_.data());
    const std::uintptr_t aligned = (start + page_size() - 1) & ~(page_size() - 1);
    memory_ = owned_.data() + (aligned - start) / sizeof(T);
  }

  [[gnu::noinline]] void load(std::uint64_t page, std::size_t place) {
    ++misses_;
    tags_[place] = kNothing;  // until it is whole
    const PageRef ref{page, reinterpret_cast<std::byte*>(memory_ + (place << shift_))};
    const Transfer transfer = source_->fill(std::span(&ref, 1));
    if (transfer.done != 1) throw SystemError(transfer.error);
    tags_[place] = page;
  }

  Source* source_;
  unsigned shift_;
  std::size_t mask_;
  std::uint64_t in_page_;
  T* memory_ = nullptr;
  std::uint64_t misses_ = 0;
  std::vector<std::uint64_t> tags_;
  std::vector<T> owned_;
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
