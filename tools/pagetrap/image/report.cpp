#include "report.hpp"

#include <string.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <string_view>

#include "../text/screen.hpp"

namespace pagetrap::tool {

namespace {

/// Bytes of the UTF-8 character that `text` begins with; 0 if it begins with none, or with one that
/// controls the terminal.
std::size_t character_length(std::string_view text) {
  const auto byte = [text](std::size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return first >= ' ' && first != 0x7f ? 1 : 0;
  const std::size_t length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (length == 0 || first > 0xf4) return 0;
  // The second byte rules out what would be overlong, a surrogate, or beyond the last character;
  // after 0xc2, the control characters from 0x80 on.
  const unsigned least = first == 0xe0 || first == 0xc2 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (byte(1) < least || byte(1) > most) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xbf) return 0;
  }
  return length;
}

}  // namespace

std::string printable(const std::string& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t length = character_length(std::string_view(bytes).substr(at));
    if (length != 0) {
      text.append(bytes, at, length);
      at += length;
    } else {
      const auto byte = static_cast<unsigned char>(bytes[at++]);
      text += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    }
  }
  return text;
}

std::string time_text(std::int64_t nanoseconds) {
  const std::time_t seconds = nanoseconds / 1'000'000'000;
  std::tm parts{};
  char text[64] = "?";
  if (::gmtime_r(&seconds, &parts) != nullptr) {
    std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts);
  }
  return text;
}

int exit_code(const Error& error) {
  switch (error.number) {
    case EBADMSG:
      return kFailed;
    case EINVAL:
      return kUsage;
    default:
      return kUnable;
  }
}

ImageReport::ImageReport(const char* command, bool json) : json_(json) {
  writer_.begin_object().member("schema", "pagetrap-image/1").member("command", command);
  writer_.key("images").begin_array();
}

int ImageReport::finish() {
  writer_.end_array().member("exit_code", code_).end_object();
  if (json_) std::printf("%s\n", writer_.text().c_str());
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code_;
  std::perror("pagetrap: standard output");
  return kUnable;
}

void ImageReport::begin(const std::string& file) {
  file_ = file;
  writer_.begin_object().member("file", printable(file));
}

void ImageReport::end() { writer_.member("ok", true).end_object(); }

void ImageReport::end(const Error& error, const std::string& about) {
  if (code_ == kOk) code_ = exit_code(error);  // of several, the first decides
  std::fflush(stdout);
  std::fprintf(stderr, "pagetrap: %s: %s\n", printable(about).c_str(), describe(error).c_str());
  const char* const symbol = ::strerrorname_np(error.number);
  writer_.member("ok", false).key("error").begin_object();
  writer_.member("about", printable(about)).member("operation", error.operation);
  writer_.member("errno", error.number).member("errno_name", symbol != nullptr ? symbol : "");
  if (error.position >= 0) {
    writer_.member("position", static_cast<std::uint64_t>(error.position));
  }
  writer_.member("remedy", error.remedy).end_object().end_object();
}

void ImageReport::describe_image(const checkpoint::ImageInfo& info) {
  writer_.member("id", checkpoint::text(info.id)).member("incremental", info.incremental());
  if (info.incremental()) writer_.member("parent", checkpoint::text(info.parent));
  writer_.member("generation", info.generation);
  writer_.member("created", time_text(info.created_ns));
  const std::int64_t seconds = std::max<std::int64_t>(info.created_ns / 1'000'000'000, 0);
  writer_.member("created_seconds", static_cast<std::uint64_t>(seconds));
  writer_.member("version", static_cast<std::uint64_t>(info.version));
  writer_.member("page_bytes", static_cast<std::uint64_t>(info.page_size));
  writer_.member("compression", checkpoint::name(info.compression));
  writer_.member("pages", info.pages).member("zero_pages", info.zero_pages);
  writer_.member("blocks", info.blocks).member("stored_bytes", info.stored_bytes);
  writer_.member("file_bytes", info.file_bytes);
  writer_.key("regions").begin_array();
  for (const checkpoint::ImageRegion& region : info.regions) {
    writer_.begin_object().member("name", printable(region.name));
    writer_.member("base", region.base).member("size_bytes", region.size_bytes);
    writer_.member("root", region.root).end_object();
  }
  writer_.end_array();
}

checkpoint::Progress LateProgress::call() {
  return [this](std::uint64_t done_bytes, std::uint64_t total_bytes) {
    if (std::chrono::steady_clock::now() - begin_ > std::chrono::seconds(2)) {
      line_.show(verb_ + " " + size_text(static_cast<double>(done_bytes)) + " of " +
                 size_text(static_cast<double>(total_bytes)));
    }
    return true;
  };
}

}  // namespace pagetrap::tool
