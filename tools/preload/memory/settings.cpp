#include "memory/settings.hpp"

#include <charconv>
#include <cstring>
#include <string_view>

namespace pagetrap::preload {
namespace {

const char* value_of(char** environment, std::string_view name) noexcept {
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view entry(*environment);
    if (entry.starts_with(name) && entry.substr(name.size()).starts_with('='))
      return *environment + name.size() + 1;
  }
  return nullptr;
}

template <class Number>
bool read_number(std::string_view text, Number& number) noexcept {
  const auto end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  return error == std::errc{} && stopped == end;
}

}  // namespace

bool read_settings(char** environment, Settings& settings, const char*& wrong) noexcept {
  wrong = "PAGETRAP_MEMORY";
  const char* const budget = value_of(environment, wrong);
  if (budget == nullptr) return true;
  std::string_view text(budget);
  constexpr std::string_view kTotal = "=total";
  settings.total = text.ends_with(kTotal);
  if (settings.total) text.remove_suffix(kTotal.size());
  if (!read_number(text, settings.budget_bytes)) return false;

  wrong = "PAGETRAP_MEMORY_DELIVERY";
  if (const char* const delivery = value_of(environment, wrong); delivery != nullptr) {
    const std::string_view name(delivery);
    if (name == "threads") {
      settings.delivery = Delivery::threads;
    } else if (name == "signals") {
      settings.delivery = Delivery::signals;
    } else if (name != "auto") {
      return false;
    }
  }
  wrong = "PAGETRAP_MEMORY_SIGNAL";
  if (const char* const number = value_of(environment, wrong); number != nullptr) {
    if (!read_number(std::string_view(number), settings.report_signal)) return false;
    if (settings.report_signal < 0 || settings.report_signal >= NSIG) return false;
  }
  wrong = "PAGETRAP_MEMORY_REPORT";
  if (const char* const file = value_of(environment, wrong); file != nullptr) {
    settings.report_at_exit = true;
    if (std::strlen(file) >= settings.report_file.size()) return false;
    if (std::strcmp(file, "-") != 0) std::strcpy(settings.report_file.data(), file);
  }
  return true;
}

}  // namespace pagetrap::preload
