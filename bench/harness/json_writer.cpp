#include "harness/json_writer.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>

namespace pagetrap::bench {

void JsonWriter::begin_value(std::string_view key) {
  if (!first_) out_ += ',';
  first_ = false;
  if (depth_ > 0) {
    out_ += '\n';
    out_.append(static_cast<std::size_t>(depth_) * 2, ' ');
  }
  if (key.empty()) return;
  quote(key);
  out_ += ": ";
}

void JsonWriter::open(std::string_view key, char bracket) {
  begin_value(key);
  out_ += bracket;
  ++depth_;
  first_ = true;
}

void JsonWriter::close(char bracket) {
  --depth_;
  if (!first_) {
    out_ += '\n';
    out_.append(static_cast<std::size_t>(depth_) * 2, ' ');
  }
  out_ += bracket;
  first_ = false;
  if (depth_ == 0) out_ += '\n';
}

void JsonWriter::quote(std::string_view words) {
  out_ += '"';
  for (const char c : words) {
    if (c == '"' || c == '\\') {
      out_ += '\\';
      out_ += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned>(c));
      out_ += escape.data();
    } else {
      out_ += c;
    }
  }
  out_ += '"';
}

void JsonWriter::open_object(std::string_view key) { open(key, '{'); }
void JsonWriter::close_object() { close('}'); }
void JsonWriter::open_array(std::string_view key) { open(key, '['); }
void JsonWriter::close_array() { close(']'); }

void JsonWriter::text(std::string_view key, std::string_view value) {
  begin_value(key);
  quote(value);
}

void JsonWriter::number(std::string_view key, double value) {
  if (!std::isfinite(value)) return null(key);
  begin_value(key);
  // Whole numbers up to 2^53 without an exponent, all else with the digits a measurement has.
  const bool whole = value == std::floor(value) && std::fabs(value) < 9007199254740992.0;
  std::array<char, 40> buffer{};
  std::snprintf(buffer.data(), buffer.size(), whole ? "%.0f" : "%.6g", value);
  out_ += buffer.data();
}

void JsonWriter::boolean(std::string_view key, bool value) {
  begin_value(key);
  out_ += value ? "true" : "false";
}

void JsonWriter::null(std::string_view key) {
  begin_value(key);
  out_ += "null";
}

}  // namespace pagetrap::bench
