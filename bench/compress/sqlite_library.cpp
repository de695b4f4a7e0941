#include "compress/sqlite_library.hpp"

#include <dlfcn.h>

namespace pagetrap::bench {

namespace {

template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace

bool Sqlite::open_library() noexcept {
  void* const library = dlopen("libsqlite3.so.0", RTLD_NOW | RTLD_LOCAL);
  return library != nullptr && find(library, "sqlite3_config", config) &&
         find(library, "sqlite3_status", status) && find(library, "sqlite3_open", open) &&
         find(library, "sqlite3_exec", exec) && find(library, "sqlite3_prepare_v2", prepare) &&
         find(library, "sqlite3_bind_int64", bind_integer) &&
         find(library, "sqlite3_bind_text", bind_text) && find(library, "sqlite3_step", step) &&
         find(library, "sqlite3_reset", reset) &&
         find(library, "sqlite3_column_int64", column_integer) &&
         find(library, "sqlite3_column_text", column_text) &&
         find(library, "sqlite3_column_bytes", column_bytes);
}

}  // namespace pagetrap::bench
