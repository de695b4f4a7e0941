// A source whose pages are a function of their index.
#pragma once

#include <type_traits>
#include <utility>

#include <pagetrap/pager/source.hpp>

namespace pagetrap {
inline namespace v0 {
namespace pager {

/// `function(page_index, bytes)` writes page_size() bytes; noexcept and signal-safe.
template <class Function>
class ComputedSource final : public Source {
 public:
  static_assert(std::is_nothrow_invocable_v<const Function&, std::uint64_t, std::byte*>,
                "the function runs inside a signal handler: declare it noexcept");

  explicit ComputedSource(Function function) : function_(std::move(function)) {}

  [[nodiscard]] SourceTraits traits() const noexcept override {
    return {.pure = true, .retains_copy = true};
  }
  Transfer fill(std::span<const PageRef> pages) noexcept PAGETRAP_SIGNAL_SAFE override {
    for (const PageRef& page : pages) function_(page.index, page.bytes);
    return {.done = pages.size()};
  }

 private:
  Function function_;
};

template <class Function>
ComputedSource<Function> computed(Function function) {
  return ComputedSource<Function>(std::move(function));
}

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
