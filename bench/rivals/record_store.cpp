#include "rivals/record_store.hpp"

#include <dlfcn.h>

#include <stdexcept>

namespace pagetrap::bench {

Library::Library(const char* file, const char* package)
    : handle_(dlopen(file, RTLD_NOW | RTLD_LOCAL)) {
  if (handle_ == nullptr) throw NotInstalled{package};
}

void* Library::symbol(const char* name) const {
  void* const found = dlsym(handle_, name);
  if (found == nullptr) throw std::runtime_error(std::string("no function ") + name);
  return found;
}

void require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what);
}

}  // namespace pagetrap::bench
