// pagetrap symbols: from modules and offsets to functions, files and lines. What a crashed program
// must not do itself, a guard's report has done here.
#include <backtrace.h>
#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <string>

#include "../commands.hpp"

namespace pagetrap::tool {
namespace {

void ignore(void*, const char*, int) {}

int own_base(dl_phdr_info* info, std::size_t, void* base) {
  *static_cast<std::uintptr_t*>(base) = info->dlpi_addr;
  return 1;  // the first one is this program
}

/// libbacktrace takes any file for the program that it is in: offsets count from where this one
/// was loaded, unless the file has addresses of its own.
struct Module {
  backtrace_state* state = nullptr;
  std::uintptr_t base = 0;
};

Module open_module(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  ElfW(Ehdr) header{};
  if (!file.read(reinterpret_cast<char*>(&header), sizeof header)) return {};
  Module module;
  if (header.e_type == ET_DYN) ::dl_iterate_phdr(own_base, &module.base);
  // It keeps the name.
  static std::map<std::string, std::string> names;
  const std::string& kept = names.emplace(path, path).first->second;
  module.state = backtrace_create_state(kept.c_str(), 0, ignore, nullptr);
  return module;
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

std::string look_up(const Module& module, std::uintptr_t offset) {
  Found found;
  if (module.state == nullptr) return {};
  backtrace_pcinfo(module.state, module.base + offset, take, ignore, &found);
  if (found.function.empty())
    backtrace_syminfo(module.state, module.base + offset, take_symbol, ignore, &found);
  if (found.place.empty()) return found.function;
  return found.function + " (" + found.place + ")";
}

}  // namespace

int symbols() {
  std::map<std::string, Module> modules;
  for (std::string line; std::getline(std::cin, line);) {
    const auto space = line.rfind(' ');
    std::string answer;
    if (space != std::string::npos) {
      const std::string path = line.substr(0, space);
      const auto known = modules.find(path);
      const Module& module = known != modules.end()
                                 ? known->second
                                 : modules.emplace(path, open_module(path)).first->second;
      answer = look_up(module, std::strtoull(line.c_str() + space + 1, nullptr, 0));
    }
    std::printf("%s\n", answer.c_str());
  }
  return kOk;
}

}  // namespace pagetrap::tool
