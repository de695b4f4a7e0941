// Loading: the handler's way to a page that is not there yet. Its contents come from the committed
// pages, verified, into a buffer, and are published in one step.
#pragma once

#include <array>
#include <atomic>

#include "store/detect/detector.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

class Loader {
 public:
  /// Room for a few threads that load at the same time; more of them take turns.
  static Result<std::unique_ptr<Loader>> create();

  /// Loads `page`, and what lies behind it if that is likely to be wanted and of no use to anybody
  /// yet. `keep`: in the image too. `page` is given `access`, the others `ahead`.
  /// False, after a report on stderr: its contents cannot be had.
  bool load(const Territory& territory, Region& region, PageNumber page, bool keep, Access access,
            Access ahead) noexcept PAGETRAP_SIGNAL_SAFE;

 private:
  static constexpr std::size_t kBuffers = 8;
  static constexpr std::size_t kAhead = 16;  // pages at once, at multiples of it
  Loader() = default;
  std::size_t claim() noexcept PAGETRAP_SIGNAL_SAFE;
  SparseArray<std::byte> memory_;
  std::array<std::atomic<bool>, kBuffers> taken_{};
  std::atomic<PageNumber> last_{0};
};

/// What is said of a write that no transaction is around, before the thread gets its signal.
void report_stray(const void* address) noexcept PAGETRAP_SIGNAL_SAFE;
void report_stray_in_snapshot(const void* address) noexcept PAGETRAP_SIGNAL_SAFE;
/// And of a page that cannot be had.
void report_loss(const Outcome& outcome, const void* address) noexcept PAGETRAP_SIGNAL_SAFE;
/// And of a block given back to a store that it is not of.
void report_foreign(const void* block) noexcept PAGETRAP_SIGNAL_SAFE;

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
