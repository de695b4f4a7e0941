// The command line of sqrt_table.
#pragma once

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "sqrt_table.hpp"

namespace example {

struct SqrtOptions {
  SqrtTableOptions table;
  unsigned threads = 4;
  double seconds = 5;
  std::uint64_t seed = 1;
  bool limit_memory = false;
  bool check_resident = false;
};

inline constexpr const char* kSqrtUsage =
    "usage: sqrt_table [options]\n"
    "  --entries N        entries of the table, a number or 2^k (2^37: 1 TiB of addresses)\n"
    "  --pages N          resident pages at most, down to 1 (16)\n"
    "  --threads N        threads that check values (4)\n"
    "  --seconds S        for how long (5)\n"
    "  --seed N           of the random positions (1)\n"
    "  --backend NAME     uffd-inline, uffd-thread, mprotect (the best there is)\n"
    "  --explain          print each fault: address, page, evicted page, microseconds\n"
    "  --limit-memory     refuse the process any further memory once the table is reserved\n"
    "  --check-resident   count the resident pages meanwhile, and fail above the limit\n"
    "exit: 0 all values right, 1 not, 2 usage, 3 the system refuses\n";

/// `text` as a number from 1 to `most`, also as 2^k.
inline std::optional<std::uint64_t> parse_count(std::string_view text, std::uint64_t most) {
  const bool power = text.starts_with("2^");
  if (power) text.remove_prefix(2);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  if (power) {
    if (number > 63) return std::nullopt;
    number = std::uint64_t{1} << number;
  }
  if (number < 1 || number > most) return std::nullopt;
  return number;
}

/// Applies option `name` with `value`; false if the value is no good.
inline bool apply_sqrt_option(SqrtOptions& options, std::string_view name, std::string_view value) {
  constexpr std::uint64_t kMostEntries = std::uint64_t{1} << 43;  // 64 TiB of the 128 there are
  constexpr std::uint64_t kMostPages = std::uint64_t{1} << 24;    // arbitrary
  constexpr std::uint64_t kMostThreads = 256;                     // arbitrary
  if (name == "--backend") {
    const auto backend = pagetrap::backend_named(value);
    // On the null backend a plain read does not fault, so nothing would compute the roots.
    if (!backend || *backend == pagetrap::BackendId::null) return false;
    options.table.backend = *backend;
    return true;
  }
  if (name == "--seconds") {
    const auto [end, error] =
        std::from_chars(value.data(), value.data() + value.size(), options.seconds);
    return error == std::errc{} && end == value.data() + value.size() && options.seconds > 0;
  }
  const auto count = parse_count(value, name == "--entries"   ? kMostEntries
                                        : name == "--pages"   ? kMostPages
                                        : name == "--threads" ? kMostThreads
                                                              : ~std::uint64_t{0});
  if (!count) return false;
  if (name == "--entries") options.table.entries = *count;
  if (name == "--pages") options.table.resident_pages = *count;
  if (name == "--threads") options.threads = static_cast<unsigned>(*count);
  if (name == "--seed") options.seed = *count;
  return true;
}

/// Nothing if the arguments make no sense, after saying why.
inline std::optional<SqrtOptions> parse_sqrt_options(int argc, char** argv) {
  SqrtOptions options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--explain") {
      options.table.explain = true;
    } else if (name == "--limit-memory") {
      options.limit_memory = true;
    } else if (name == "--check-resident") {
      options.check_resident = true;
    } else if (name != "--entries" && name != "--pages" && name != "--threads" &&
               name != "--seconds" && name != "--seed" && name != "--backend") {
      std::fputs(kSqrtUsage, stderr);
      return std::nullopt;
    } else if (i + 1 == argc || !apply_sqrt_option(options, name, argv[i + 1])) {
      std::fprintf(stderr, "sqrt_table: %s cannot be %s\n%s", argv[i],
                   i + 1 == argc ? "left without a value" : argv[i + 1], kSqrtUsage);
      return std::nullopt;
    } else {
      ++i;
    }
  }
  return options;
}

}  // namespace example
