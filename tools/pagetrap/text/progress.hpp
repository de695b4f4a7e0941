// A line on standard error that is written over and over. Only on a terminal.
#pragma once

#include <string_view>

namespace pagetrap::tool {

/// Owns the line; destruction wipes it.
class Progress {
 public:
  Progress();
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(std::string_view text);

 private:
  bool visible_;
  bool dirty_ = false;
};

}  // namespace pagetrap::tool
