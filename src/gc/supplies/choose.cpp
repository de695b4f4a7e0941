#include <cerrno>

#include "gc/supplier.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

const char* name(PageSupply supply) noexcept {
  switch (supply) {
    case PageSupply::best:
      return "best";
    case PageSupply::uffd_minor:
      return "uffd-minor";
    case PageSupply::mprotect:
      return "mprotect";
    case PageSupply::none:
      break;
  }
  return "none";
}

Result<std::unique_ptr<PageSupplier>> make_supplier(PageSupply which, std::byte* address,
                                                    std::size_t size_bytes) {
  switch (which) {
    case PageSupply::uffd_minor:
      return make_uffd_minor(address, size_bytes);
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
