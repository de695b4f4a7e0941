// pagetrap restart: a process goes on where its image was taken, and is saved again.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <optional>
#include <string>

#include "../run/launch.hpp"
#include "options.hpp"
#include "requests.hpp"
#include "supervise.hpp"

namespace pagetrap::tool {
namespace {

using checkpoint::RestartedProcess;
using checkpoint::RestartMode;

// "2026-11-30 12:00:00" and prefixes of it, in local time; or seconds since 1970 after an @.
std::optional<std::int64_t> parse_moment(const std::string& text) {
  if (text.starts_with("@")) {
    constexpr std::size_t kMostDigits = 11;
    if (text.size() < 2 || text.size() > 1 + kMostDigits ||
        text.find_first_not_of("0123456789", 1) != std::string::npos)
      return std::nullopt;
    return std::stoll(text.substr(1)) * 1'000'000'000;
  }
  for (const char* const form :
       {"%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"}) {
    std::tm parts{};
    parts.tm_isdst = -1;
    const char* const end = ::strptime(text.c_str(), form, &parts);
    if (end != nullptr && *end == '\0') return std::int64_t{std::mktime(&parts)} * 1'000'000'000;
  }
  return std::nullopt;
}

RestartMode mode_named(const std::string& name) {
  if (name == "eager") return RestartMode::eager;
  if (name == "mapped") return RestartMode::mapped;
  if (name == "lazy") return RestartMode::lazy;
  return RestartMode::automatic;
}

// Where the images of this process are, and go on to be.
std::string directory_of(const std::string& path) {
  const std::filesystem::path absolute = std::filesystem::absolute(path);
  return std::filesystem::is_directory(absolute) ? absolute.string()
                                                 : absolute.parent_path().string();
}

}  // namespace

int restart(const RestartRequest& request) {
  std::string path = request.path;
  if (!request.at.empty()) {
    const auto when = parse_moment(request.at);
    if (!when)
      return launch::usage("restart: --at " + request.at +
                           " is no time; such are \"2026-11-30 12:00:00\" and @1796040000");
    const auto image = checkpoint::image_at(path, *when);
    if (!image)
      return launch::unable("restart: " + path + ": " + describe(image.error()),
                            "`pagetrap image inspect` shows when images were taken.");
    path = *image;
  }
  process::Supervision supervision;
  CheckpointRequest saving = request.saving;
  if (saving.directory.empty()) saving.directory = directory_of(path);
  if (const std::string wrong = process::saver_options(saving, supervision.saving); !wrong.empty())
    return launch::usage("restart: " + wrong);
  process::block_signals();
  checkpoint::RestartOptions options;
  options.mode = mode_named(request.mode);
  options.any_files = request.any_files;
  options.other_kernel = request.other_kernel;
  if (!request.no_checkpoints)
    options.before_it_goes_on = [&](const std::string& socket) {
      if (!socket.empty() && supervision.listener < 0)
        supervision.listener = process::listen_at(socket);
    };
  std::vector<std::string> refusals;
  auto started = RestartedProcess::start(path, options, refusals);
  if (!started) {
    std::fprintf(stderr, "pagetrap: restart: %s: %s\n", path.c_str(),
                 describe(started.error()).c_str());
    for (const std::string& line : refusals)
      std::fprintf(stderr, "pagetrap: restart: refused: %s\n", line.c_str());
    return kUnable;
  }
  for (const std::string& notice : started->notices())
    std::fprintf(stderr, "pagetrap: restart: %s\n", notice.c_str());
  if (request.verbose)
    std::fprintf(stderr, "pagetrap: restart: process %d, %s, first instruction after %.1f ms\n",
                 started->id_inside(), request.mode.empty() ? "automatic" : request.mode.c_str(),
                 started->first_instruction_us() / 1e3);
  if (request.saving.every.empty()) supervision.saving->every = started->every();
  if (request.saving.keep.empty()) supervision.saving->keep = std::max(1U, started->keep());
  if (request.saving.full_every.empty())
    supervision.saving->full_every = std::max(1U, started->full_every());
  if (request.saving.compression.empty())
    supervision.saving->compression = started->image().compression;
  supervision.saving->socket = started->socket();
  if (request.no_checkpoints) supervision.saving.reset();
  supervision.process = started->id();
  supervision.report = request.report;
  supervision.wait = [&] { return started->wait(); };
  supervision.meanwhile = [&] {
    if (const auto done = started->finish(); !done)
      std::fprintf(stderr, "pagetrap: restart: %s: %s; the process was ended\n", path.c_str(),
                   describe(done.error()).c_str());
  };
  return process::supervise(supervision);
}

}  // namespace pagetrap::tool
