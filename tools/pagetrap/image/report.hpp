// What the four image commands have in common: how they say what they found, for people or as JSON
// (schema pagetrap-image/1; docs/commands.md describes the members).
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include <pagetrap/checkpoint/image.hpp>

#include "../commands.hpp"
#include "../text/json_writer.hpp"
#include "../text/progress.hpp"

namespace pagetrap::tool {

/// `bytes` for a terminal or a JSON reader: what is not UTF-8, or controls a terminal, as \xNN.
std::string printable(const std::string& bytes);

/// As "2026-11-23 05:31:31 UTC".
std::string time_text(std::int64_t nanoseconds);

/// What a command returns for `error`: a damaged image is another matter than an unreadable one.
int exit_code(const Error& error);

/// One command's outcome.
class ImageReport {
 public:
  ImageReport(const char* command, bool json);
  /// Prints the JSON, and returns what the process should.
  int finish();

  /// The entry of one FILE begins; its members follow.
  void begin(const std::string& file);
  /// Ends the entry. Says on standard error what failed, if anything did.
  void end();
  void end(const Error& error, const std::string& about);

  [[nodiscard]] bool json() const { return json_; }
  [[nodiscard]] JsonWriter& writer() { return writer_; }
  /// The members that describe `info`, in JSON only.
  void describe_image(const checkpoint::ImageInfo& info);

 private:
  bool json_;
  int code_ = kOk;
  std::string file_;
  JsonWriter writer_;
};

/// A progress line, from two seconds on. Give call() to the functions of image.hpp.
class LateProgress {
 public:
  explicit LateProgress(std::string verb) : verb_(std::move(verb)) {}
  checkpoint::Progress call();

 private:
  std::string verb_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  Progress line_;
};

}  // namespace pagetrap::tool
