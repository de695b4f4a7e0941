// pagetrap symbols: from modules and offsets to functions, files and lines. What a crashed program
// must not do itself, a guard's report has done here.
#include <backtrace.h>
#include <cxxabi.h>
#include <link.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "../commands.hpp"

namespace pagetrap::tool {
namespace {

void ignore(void*, const char*, int) {}

/// libbacktrace takes a file for the program that it is in, and reads that program's libraries with
/// it, whose debug information is large. While it opens a file it sees one module, at address 0: so
/// addresses are offsets.
constinit bool alone = false;

class Alone {
 public:
  Alone() noexcept { alone = true; }
  ~Alone() { alone = false; }
  Alone(const Alone&) = delete;
  Alone& operator=(const Alone&) = delete;
};

backtrace_state* open_module(const std::string& path) {
  if (::access(path.c_str(), R_OK) != 0) return nullptr;
  // It keeps the name.
  static std::set<std::string> names;
  return backtrace_create_state(names.insert(path).first->c_str(), 0, ignore, nullptr);
}

std::string plain(const char* name) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> words(
      abi::__cxa_demangle(name, nullptr, nullptr, &status), std::free);
  return status == 0 ? words.get() : name;
}

struct Found {
  std::string function;
  std::string place;
};

// Inlined functions come innermost first: that is where the code stands.
int take(void* into, std::uintptr_t, const char* file, int line, const char* function) {
  auto& found = *static_cast<Found*>(into);
  if (function != nullptr) found.function = plain(function);
  if (file != nullptr) found.place = std::string(file) + ":" + std::to_string(line);
  return found.function.empty() ? 0 : 1;
}

void take_symbol(void* into, std::uintptr_t, const char* name, std::uintptr_t, std::uintptr_t) {
  if (name != nullptr) static_cast<Found*>(into)->function = plain(name);
}

std::string look_up(backtrace_state* module, std::uintptr_t offset) {
  Found found;
  if (module == nullptr) return {};
  const Alone alone_for_now;  // it opens the file at the first question
  backtrace_pcinfo(module, offset, take, ignore, &found);
  if (found.function.empty()) backtrace_syminfo(module, offset, take_symbol, ignore, &found);
  if (found.place.empty()) return found.function;
  return found.function + " (" + found.place + ")";
}

}  // namespace
}  // namespace pagetrap::tool

// The linker's --wrap: libbacktrace calls the second of these in place of the C library's.
extern "C" int iterate_modules(int (*each)(dl_phdr_info*, std::size_t, void*),
                               void* data) asm("__real_dl_iterate_phdr");
extern "C" int iterate_one_module(int (*each)(dl_phdr_info*, std::size_t, void*),
                                  void* data) asm("__wrap_dl_iterate_phdr");
int iterate_one_module(int (*each)(dl_phdr_info*, std::size_t, void*), void* data) {
  if (!pagetrap::tool::alone) return iterate_modules(each, data);
  dl_phdr_info info{};
  info.dlpi_name = "";
  return each(&info, sizeof info, data);
}

namespace pagetrap::tool {

int symbols() {
  std::map<std::string, backtrace_state*> modules;
  for (std::string line; std::getline(std::cin, line);) {
    const auto space = line.rfind(' ');
    std::string answer;
    if (space != std::string::npos) {
      const std::string path = line.substr(0, space);
      const auto known = modules.find(path);
      backtrace_state* const module = known != modules.end()
                                          ? known->second
                                          : modules.emplace(path, open_module(path)).first->second;
      answer = look_up(module, std::strtoull(line.c_str() + space + 1, nullptr, 0));
    }
    std::printf("%s\n", answer.c_str());
    std::fflush(stdout);  // who asks waits so long and no longer
  }
  return kOk;
}

}  // namespace pagetrap::tool
