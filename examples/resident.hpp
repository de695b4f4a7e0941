// How much memory a range really has, as /proc tells it.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

#include <pagetrap/core/units.hpp>

namespace example {

/// The resident pages in `range`, from /proc/self/smaps. Nothing if that cannot be read, or if a
/// mapping reaches over the range's ends, so that its pages cannot be told apart.
inline std::optional<pagetrap::Pages> resident_pages(pagetrap::PageRange range) {
  const auto base = reinterpret_cast<std::uintptr_t>(range.base);
  const auto end = base + range.size_bytes();
  std::ifstream maps("/proc/self/smaps");
  if (!maps) return std::nullopt;
  std::uint64_t kibibytes = 0;
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    std::uint64_t from = 0;
    std::uint64_t to = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2) {
      inside = from < end && to > base;
      if (inside && (from < base || to > end)) return std::nullopt;
    } else if (inside && line.starts_with("Rss:")) {
      kibibytes += std::stoull(line.substr(4));
    }
  }
  return pagetrap::pages_for(kibibytes * 1024);
}

/// A line of /proc/self/status that counts kibibytes, such as "VmPTE", in bytes.
inline std::optional<std::uint64_t> status_bytes(std::string_view field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field) && line.size() > field.size() && line[field.size()] == ':') {
      return std::stoull(line.substr(field.size() + 1)) * 1024;
    }
  }
  return std::nullopt;
}

}  // namespace example
