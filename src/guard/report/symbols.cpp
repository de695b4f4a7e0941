#include "guard/report/symbols.hpp"

#include <dlfcn.h>
#include <link.h>

#include <atomic>

#include <pagetrap/core/signal_safe_text.hpp>

#include "sys/filter.hpp"
#include "sys/process_names.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

// One report at a time: see report.cpp.
constinit BasicSignalSafeText<48 * 1024> question{};
constinit std::array<char, 48 * 1024> answer{};

constinit std::array<char, 1024> program_path{};
constinit std::atomic<std::size_t> program_length{0};

// The loader has no name for it.
std::string_view program() noexcept PAGETRAP_SIGNAL_SAFE {
  if (program_length.load() == 0) program_length = sys::executable(program_path).size();
  return {program_path.data(), program_length.load()};
}

constexpr int kPatience = 5000;  // milliseconds; debug information may be large, and disks slow

}  // namespace

Place place_of(std::uintptr_t address) noexcept PAGETRAP_SIGNAL_SAFE {
  dl_find_object found{};
  if (::_dl_find_object(reinterpret_cast<void*>(address), &found) != 0) return {{}, address};
  const link_map* const module = found.dlfo_link_map;
  std::string_view name(module->l_name != nullptr ? module->l_name : "");
  if (name.empty()) name = program();
  return {name, address - module->l_addr};
}

void Symbols::ask(const char* symboliser, const Frames* const* stacks, std::size_t count,
                  std::size_t interrupted) noexcept PAGETRAP_SIGNAL_SAFE {
  lines_ = {};
  if (symboliser == nullptr || *symboliser == '\0') return;
  question.clear();
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t j = 0; j < stacks[i]->count; ++j) {
      const bool exact = i == interrupted && j == 0;
      const Place place = place_of(stacks[i]->addresses[j] - (exact ? 0 : 1));
      question.text(place.module.empty() ? "-" : place.module)
          .text(" ")
          .hex(place.offset)
          .text("\n");
    }
  }
  const std::array<const char*, 3> words{symboliser, "symbols", nullptr};
  std::size_t got = 0;
  // Whatever came in time is used.
  static_cast<void>(
      sys::filter(words.data(), question.view(), answer.data(), answer.size(), got, kPatience));
  std::size_t at = 0;
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t j = 0; j < stacks[i]->count; ++j) {
      std::size_t end = at;
      while (end < got && answer[end] != '\n') ++end;
      if (end == got) return;
      lines_[i][j] = {answer.data() + at, end - at};
      at = end + 1;
    }
  }
}

std::string_view Symbols::of(std::size_t stack, std::size_t frame) const noexcept
    PAGETRAP_SIGNAL_SAFE {
  return lines_[stack][frame];
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
