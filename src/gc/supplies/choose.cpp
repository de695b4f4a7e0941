#include <sys/mman.h>

#include <cerrno>

#include "gc/supplier.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

const char* name(PageSupply supply) noexcept {
  switch (supply) {
    case PageSupply::best:
      return "best";
    case PageSupply::uffd_minor:
      return "uffd-minor";
    case PageSupply::uffd_copy:
      return "uffd-copy";
    case PageSupply::mprotect:
      return "mprotect";
    case PageSupply::none:
      break;
  }
  return "none";
}

// The pages must be in the object before they can be opened.
Outcome place_through_view(PageSupplier& supplier, PageRange pages,
                           std::uint64_t first_word) noexcept {
  std::byte* const view = pages.base + supplier.view();
  if (const int error = sys::advise({view, pages.length}, MADV_POPULATE_WRITE))
    return Error{"MADV_POPULATE_WRITE of a large object", error, pages};
  *reinterpret_cast<std::uint64_t*>(view) = first_word;
  // Refused: its traps open it, page by page.
  static_cast<void>(supplier.open(pages, false));
  return kDone;
}

Result<std::unique_ptr<PageSupplier>> make_supplier(PageSupply which, std::byte* address,
                                                    std::size_t size_bytes) {
  switch (which) {
    case PageSupply::uffd_minor:
      return make_uffd_minor(address, size_bytes);
    case PageSupply::uffd_copy:
      return make_uffd_copy(address, size_bytes);
    case PageSupply::mprotect:
      return make_mprotect(address, size_bytes);
    case PageSupply::none:
      return make_unprotected(address, size_bytes);
    case PageSupply::best:
      break;
  }
  auto supplier = make_uffd_minor(address, size_bytes);
  if (supplier || supplier.error().number == EEXIST) return supplier;
  return make_mprotect(address, size_bytes);
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
