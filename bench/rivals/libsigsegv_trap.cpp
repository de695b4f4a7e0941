#include "rivals/libsigsegv_trap.hpp"

#include <dlfcn.h>
#include <sys/mman.h>

#include <pagetrap/core/units.hpp>

namespace pagetrap::bench::rivals {

namespace {

Libsigsegv g_library;
Libsigsegv::Dispatcher g_dispatcher{};
std::uint64_t g_faults = 0;

int on_area_fault(void* address, void*) {
  ++g_faults;
  return mprotect(page_of(address).base, page_size(), PROT_READ | PROT_WRITE) == 0 ? 1 : 0;
}

int on_any_fault(void* address, int) { return g_library.dispatch(&g_dispatcher, address); }

template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace

bool Libsigsegv::open() noexcept {
  void* const library = dlopen("libsigsegv.so.2", RTLD_NOW | RTLD_LOCAL);
  return library != nullptr && find(library, "sigsegv_install_handler", install_handler) &&
         find(library, "sigsegv_init", init) && find(library, "sigsegv_register", register_area) &&
         find(library, "sigsegv_dispatch", dispatch);
}

LibsigsegvTrap::LibsigsegvTrap(const Libsigsegv& library, std::size_t size_bytes)
    : memory_(size_bytes) {
  populate(memory_.data(), size_bytes);
  g_library = library;
  g_library.init(&g_dispatcher);
  g_library.register_area(&g_dispatcher, memory_.data(), size_bytes, on_area_fault, nullptr);
}

bool LibsigsegvTrap::protect(std::byte* from, std::size_t size_bytes) noexcept {
  return mprotect(from, size_bytes, PROT_READ) == 0;
}

std::uint64_t LibsigsegvTrap::faults() noexcept { return g_faults; }

LibsigsegvTrap::Armed::Armed() noexcept {
  sigaction(SIGSEGV, nullptr, &before_);
  g_library.install_handler(on_any_fault);
}

LibsigsegvTrap::Armed::~Armed() { sigaction(SIGSEGV, &before_, nullptr); }

}  // namespace pagetrap::bench::rivals
