// An array of records, and programs that read and write it in some order: the same for memory of
// every kind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pagetrap::bench {

/// 64 bytes, of which LZ4 finds a third.
struct Record {
  std::uint64_t number;
  std::uint64_t writes;
  char text[48];
};
static_assert(sizeof(Record) == 64);

enum class Order : std::uint8_t { uniform, zipf, sequential };

/// One program at work on one array.
class Walk {
 public:
  /// `draws`: pages, in the order of Zipf's law (draw_zipf); borrowed, used where `order` says so.
  Walk(std::byte* base, std::size_t size_bytes, Order order, unsigned writes_percent,
       const std::vector<std::uint32_t>& draws)
      : records_(reinterpret_cast<Record*>(base)),
        count_(size_bytes / sizeof(Record)),
        order_(order),
        writes_percent_(writes_percent),
        draws_(draws) {}

  /// Gives every record its contents.
  void build();
  /// Nanoseconds for each of `operations`: a record is read, or, in order, a whole page. Throws
  /// std::runtime_error if one has the wrong contents.
  double run(std::size_t operations);
  /// The duration that one operation in a thousand exceeds.
  double p999(std::size_t operations);

 private:
  void step();
  Record* records_;
  std::uint64_t count_;
  Order order_;
  unsigned writes_percent_;
  const std::vector<std::uint32_t>& draws_;
  std::uint64_t random_ = 42;
  std::uint64_t at_ = 0;  // in draws_, or the page that is next
  bool wrong_ = false;
};

/// Page numbers below `pages` by Zipf's law with exponent 0.99, the favourites scattered.
std::vector<std::uint32_t> draw_zipf(std::size_t pages, std::size_t count);

}  // namespace pagetrap::bench
