#include "compress/heaps.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string_view>

#include "compress/text.hpp"

namespace pagetrap::bench {

namespace {

/// Appends as a malloc would lay things out: a size before each block, blocks in steps of 16.
class Heap {
 public:
  explicit Heap(std::size_t size_bytes) { bytes_.reserve(size_bytes + 65536); }

  std::uint64_t add(const void* data, std::size_t length) {
    const std::size_t whole = (length + 8 + 15) / 16 * 16;
    const std::uint64_t size_field = whole | 1;
    const std::size_t at = bytes_.size();
    bytes_.resize(at + whole);
    std::memcpy(bytes_.data() + at, &size_field, sizeof size_field);
    std::memcpy(bytes_.data() + at + 8, data, length);
    return kBase + at + 8;
  }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  std::vector<std::byte> take() {
    bytes_.resize(bytes_.size() / 4096 * 4096);
    return std::move(bytes_);
  }

 private:
  static constexpr std::uint64_t kBase = 0x5555'5577'0000;
  std::vector<std::byte> bytes_;
};

/// unordered_map<string, string>: nodes with pointers, and long strings beside them.
std::vector<std::byte> text_table(const std::vector<std::string>& text, std::size_t size_bytes) {
  struct Node {
    std::uint64_t next;
    std::uint64_t key_data, key_size;
    char key_here[16];
    std::uint64_t value_data, value_size;
    char value_here[16];
    std::uint64_t hash;
  };
  Heap heap(size_bytes);
  std::mt19937_64 random(2);
  std::uint64_t last = 0;
  while (heap.size() < size_bytes) {
    const std::string& line = text[random() % text.size()];
    const std::string key = line.substr(line.find_first_not_of(" \t*/#") % line.size(), 24);
    Node node{};
    node.next = last;
    node.key_size = key.size();
    node.key_data = heap.add(key.c_str(), key.size() + 1);
    node.value_size = line.size();
    node.value_data = heap.add(line.c_str(), line.size() + 1);
    node.hash = std::hash<std::string>{}(key);
    last = heap.add(&node, sizeof node);
  }
  return heap.take();
}

/// A cache's heap: entries, keys and values in blocks of their own.
std::vector<std::byte> json_cache(const std::vector<std::string>& text, std::size_t size_bytes) {
  struct Entry {
    std::uint64_t key, value, next;
  };
  Heap heap(size_bytes);
  std::mt19937_64 random(3);
  std::uint64_t last = 0;
  for (std::uint64_t id = 1'000'000; heap.size() < size_bytes; ++id) {
    const std::string key = "user:" + std::to_string(id);
    const std::string value = json_value(text, id, random);
    const Entry entry{heap.add(key.c_str(), key.size() + 1),
                      heap.add(value.c_str(), value.size() + 1), last};
    last = heap.add(&entry, sizeof entry);
  }
  return heap.take();
}

/// Leaves of a B-tree as SQLite lays them out: a header, an array of offsets, and cells that grow
/// from the end of a page of 4 KiB.
std::vector<std::byte> database(const std::vector<std::string>& text, std::size_t size_bytes) {
  constexpr std::size_t kPage = 4096;
  std::vector<std::byte> all(size_bytes / kPage * kPage);
  std::mt19937_64 random(4);
  std::uint64_t row = 1;
  for (std::size_t page = 0; page < all.size(); page += kPage) {
    std::byte* const base = all.data() + page;
    std::size_t cells = 0;
    std::size_t end = kPage;
    for (;;) {
      std::string cell = std::string(1, char(4)) + std::to_string(row % 40) + '\x01' +
                         text[random() % text.size()] + '\0' +
                         std::string(reinterpret_cast<const char*>(&row), 3) +
                         text[random() % text.size()].substr(0, 40);
      cell = static_cast<char>(cell.size() % 128) + cell;
      if (8 + 2 * (cells + 1) + cell.size() > end) break;
      end -= cell.size();
      std::memcpy(base + end, cell.data(), cell.size());
      base[8 + 2 * cells] = static_cast<std::byte>(end >> 8);
      base[9 + 2 * cells] = static_cast<std::byte>(end);
      ++cells;
      ++row;
    }
    base[0] = std::byte{13};
    base[3] = static_cast<std::byte>(cells >> 8);
    base[4] = static_cast<std::byte>(cells);
    base[5] = static_cast<std::byte>(end >> 8);
    base[6] = static_cast<std::byte>(end);
  }
  return all;
}

}  // namespace

std::vector<HeapImage> text_heaps(std::size_t size_bytes) {
  const std::vector<std::string> text = text_lines(size_bytes);
  if (text.size() < kEnoughLines) return {};
  return {{"text", text_table(text, size_bytes)},
          {"json", json_cache(text, size_bytes)},
          {"sqlite", database(text, size_bytes)}};
}

}  // namespace pagetrap::bench
