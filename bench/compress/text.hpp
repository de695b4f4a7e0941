// The text that fills heaps and programs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace pagetrap::bench {

/// With fewer than so many there is too little text on a machine to measure with.
inline constexpr std::size_t kEnoughLines = 20'000;

/// Lines of the text of this machine, from files all over it, about `wanted_bytes` of them.
std::vector<std::string> text_lines(std::size_t wanted_bytes);

/// What a cache would hold of a user, some hundred bytes.
std::string json_value(const std::vector<std::string>& text, std::uint64_t id,
                       std::mt19937_64& random);

}  // namespace pagetrap::bench
