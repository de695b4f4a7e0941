// Two sources, one before the other: a small fast one that overflows into a large slow one.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include <pagetrap/pager/source.hpp>

namespace pagetrap {
inline namespace v0 {
namespace pager {

/// Pages are written back to `upper` until it holds `upper_pages` of them; then the one that has
/// been there longest moves to `lower`. A page that is filled from either stays there until it is
/// written back again, or forgotten.
class PAGETRAP_API TieredSource final : public Source {
 public:
  /// Both are borrowed. `pages`: of the region. Errors  ENOMEM; EINVAL.
  static Result<std::unique_ptr<TieredSource>> create(Source& upper, std::size_t upper_pages,
                                                      Source& lower, std::uint64_t pages);
  ~TieredSource() override;

  [[nodiscard]] SourceTraits traits() const noexcept override;
  Transfer fill(std::span<const PageRef> pages) noexcept PAGETRAP_SIGNAL_SAFE override;
  Transfer write_back(std::span<const PageRef> pages) noexcept PAGETRAP_SIGNAL_SAFE override;
  void forget(std::uint64_t first, std::size_t count) noexcept PAGETRAP_SIGNAL_SAFE override;
  void prefetch(std::uint64_t first, std::size_t count) noexcept override;
  [[nodiscard]] std::size_t memory_bytes() const noexcept PAGETRAP_SIGNAL_SAFE override;
  void in_child() noexcept override;

  [[nodiscard]] std::size_t pages_in_upper() const noexcept;

 private:
  struct State;
  explicit TieredSource(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
