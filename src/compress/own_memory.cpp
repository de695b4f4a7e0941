#include "compress/own_memory.hpp"

#include <sys/mman.h>

#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace compress {

Result<sys::Mapping> own_memory(std::size_t size_bytes, const char* name) {
  auto memory = sys::Mapping::create({bytes(pages_for(size_bytes)), PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE});
  if (!memory) return memory.error();
  // A huge page would commit what is not used, and take back what was given back. EINVAL: a kernel
  // without huge pages.
  static_cast<void>(sys::advise(memory->range(), MADV_NOHUGEPAGE));
  sys::name_mapping(memory->range(), name);
  return memory;
}

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
