// Heaps of programs that hold text, made of the text of this machine.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace pagetrap::bench {

/// Whole pages.
struct HeapImage {
  std::string name;
  std::vector<std::byte> bytes;
};

/// About `size_bytes` each: a hash table of words and lines in strings; values in JSON as a cache
/// has them; pages of B-trees as an in-memory database has them. Empty: too little text here.
std::vector<HeapImage> text_heaps(std::size_t size_bytes);

}  // namespace pagetrap::bench
