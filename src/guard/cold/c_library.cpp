#include "guard/cold/c_library.hpp"

#include <link.h>

#include <string_view>

namespace pagetrap {
inline namespace v0 {
namespace guard {

void CLibrary::find() noexcept {
  struct Search {
    std::array<Range, 2>* ranges;
    std::size_t found;
  } search{&ranges_, 0};
  const auto look = [](dl_phdr_info* module, std::size_t, void* into) -> int {
    auto& mine = *static_cast<Search*>(into);
    std::string_view name(module->dlpi_name);
    name.remove_prefix(name.rfind('/') + 1);
    if (!name.starts_with("libc.so") && !name.starts_with("ld-linux")) return 0;
    Range& range = (*mine.ranges)[mine.found++];
    for (int i = 0; i < module->dlpi_phnum; ++i) {
      const ElfW(Phdr)& part = module->dlpi_phdr[i];
      if (part.p_type != PT_LOAD || (part.p_flags & PF_X) == 0) continue;
      range = {module->dlpi_addr + part.p_vaddr, part.p_memsz};
    }
    return mine.found == mine.ranges->size() ? 1 : 0;
  };
  static_cast<void>(::dl_iterate_phdr(look, &search));
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
