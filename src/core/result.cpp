#include <pagetrap/core/result.hpp>

#include <cstring>

#include <pagetrap/core/signal_safe_text.hpp>

namespace pagetrap {
inline namespace v0 {

std::string describe(const Error& error) {
  std::string line = error.operation;
  if (!error.range.empty()) {
    SignalSafeText where;
    line += " ";
    line += where.range(error.range).view();
  }
  if (error.position >= 0) line += " at byte " + std::to_string(error.position);
  const char* symbol = ::strerrorname_np(error.number);
  line += ": ";
  line += symbol != nullptr ? symbol : std::to_string(error.number);
  if (const char* words = ::strerrordesc_np(error.number); words != nullptr) {
    line += " (";
    line += words;
    line += ")";
  }
  if (error.remedy != nullptr && *error.remedy != '\0') {
    line += ". ";
    line += error.remedy;
  }
  return line;
}

SystemError::SystemError(const Error& error)
    : std::system_error(error.number, std::generic_category()),
      error_(error),
      words_(describe(error)) {}

}  // namespace v0
}  // namespace pagetrap
