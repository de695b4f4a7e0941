// Pages of all kinds.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <pagetrap/compress/compress.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap::compress {

using Bytes = std::vector<std::byte>;

inline std::span<const std::byte> page_at(const Bytes& bytes, std::size_t index) {
  return std::span(bytes).subspan(index * page_size(), page_size());
}

/// Text of this machine: its C headers, one after the other.
inline Bytes text_pages(std::size_t pages) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator("/usr/include"))
    if (entry.is_regular_file() && !entry.is_symlink()) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  Bytes text(pages * page_size());
  std::size_t filled = 0;
  for (const fs::path& path : files) {
    std::ifstream file(path, std::ios::binary);
    file.read(reinterpret_cast<char*>(text.data() + filled),
              static_cast<std::streamsize>(text.size() - filled));
    filled += static_cast<std::size_t>(file.gcount());
    if (filled == text.size()) return text;
  }
  ADD_FAILURE() << "too little text in /usr/include: " << filled;
  return text;
}

inline Bytes random_bytes(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

template <class Number, class Make>
Bytes numbers(std::size_t pages, Make make) {
  Bytes bytes(pages * page_size());
  for (std::size_t i = 0; i < bytes.size() / sizeof(Number); ++i) {
    const Number number = make(i);
    std::memcpy(bytes.data() + i * sizeof number, &number, sizeof number);
  }
  return bytes;
}

inline Bytes square_roots(std::size_t pages) {
  return numbers<double>(
      pages, [](std::size_t i) { return std::sqrt(static_cast<double>(1'000'000 + i)); });
}

struct Sample {
  std::string name;
  Bytes pages;
};

inline std::vector<Sample> samples(std::size_t pages) {
  std::mt19937 random(1);
  Bytes sparse(pages * page_size());
  for (std::size_t i = 0; i < sparse.size(); i += 1000) sparse[i] = std::byte{1};
  std::uint32_t key = 0;
  return {{"text", text_pages(pages)},
          {"zeroes", Bytes(pages * page_size())},
          {"random", random_bytes(pages * page_size(), 2)},
          {"roots", square_roots(pages)},
          {"keys", numbers<std::uint32_t>(pages,
                                          [&](std::size_t) {
                                            return key += static_cast<std::uint32_t>(random() % 50);
                                          })},
          {"sparse", std::move(sparse)}};
}

}  // namespace pagetrap::compress
