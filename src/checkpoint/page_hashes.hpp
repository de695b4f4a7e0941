// PageHashes: what the last image has in each page of a region, 16 bytes a page. Writes are noticed
// by whole units; this tells which pages of them are different.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>

#include "checkpoint/image/checksum.hpp"
#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

class PageHashes {
 public:
  /// For `pages` pages. Its memory is committed as it is used.
  Result<Done> create(Pages pages);
  [[nodiscard]] bool valid() const noexcept { return !memory_.range().empty(); }
  /// No page is in any image.
  void forget() noexcept;
  /// Notes what the page is now; whether that is what it was. Threads: any, but one for a page.
  bool is_same(std::size_t page, std::span<const std::byte> contents) noexcept;

 private:
  sys::Mapping memory_;
  std::uint64_t seed_ = 0;  // random: nobody can make two pages that have one hash
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
