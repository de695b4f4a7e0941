// Writes JSON: as much of it as the benchmark rows need.
#pragma once

#include <string>
#include <string_view>

namespace pagetrap::bench {

/// Builds one document. The caller opens and closes in order; commas and indentation are done here.
class JsonWriter {
 public:
  void open_object(std::string_view key = {});
  void close_object();
  void open_array(std::string_view key = {});
  void close_array();

  void text(std::string_view key, std::string_view value);
  void number(std::string_view key, double value);  // not finite: null
  void boolean(std::string_view key, bool value);
  void null(std::string_view key);

  [[nodiscard]] const std::string& document() const noexcept { return out_; }

 private:
  void begin_value(std::string_view key);
  void open(std::string_view key, char bracket);
  void close(char bracket);
  void quote(std::string_view words);

  std::string out_;
  int depth_ = 0;
  bool first_ = true;
};

}  // namespace pagetrap::bench
