// Writes JSON. Readers use a library; writing takes eighty lines.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pagetrap::tool {

/// Builds one JSON text, indented. The caller pairs begin and end, and names every member of an
/// object by key() first.
class JsonWriter {
 public:
  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view name);
  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(const std::string& text) { return value(std::string_view(text)); }
  JsonWriter& value(bool truth);
  JsonWriter& value(double number);  // null if it is not finite
  JsonWriter& value(std::uint64_t number);
  JsonWriter& value(int number);

  template <class T>
  JsonWriter& member(std::string_view name, const T& content) {
    key(name);
    return value(content);
  }

  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  JsonWriter& open(char bracket);
  JsonWriter& close(char bracket);
  void before_value();
  void new_line();
  void quote(std::string_view text);

  std::string text_;
  int depth_ = 0;
  bool first_ = true;       // nothing yet inside the innermost bracket
  bool after_key_ = false;  // the value stands on the key's line
};

}  // namespace pagetrap::tool
