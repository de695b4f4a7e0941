// Forgery: changes an image and makes its checksums agree again. Takes any bytes, images or not, as
// the fuzz target has them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "checkpoint/image/checksum.hpp"
#include "checkpoint/image/layout.hpp"

namespace pagetrap::checkpoint::test {

class Forgery {
 public:
  /// Borrows `image`.
  explicit Forgery(std::span<std::byte> image) : image_(image) {}

  // Precondition of these: an image it was.
  [[nodiscard]] layout::Header header() const { return get<layout::Header>(0); }
  void set_header(const layout::Header& record) { put(0, record); }
  [[nodiscard]] layout::Region region() const { return get<layout::Region>(kFirstRegion); }
  void set_region(const layout::Region& record) { put(kFirstRegion, record); }
  [[nodiscard]] layout::Footer footer() const { return get<layout::Footer>(footer_at()); }
  void set_footer(const layout::Footer& record) { put(footer_at(), record); }
  [[nodiscard]] layout::IndexHead index_head() const {
    return get<layout::IndexHead>(footer().index_offset);
  }
  void set_index_head(const layout::IndexHead& record) { put(footer().index_offset, record); }
  [[nodiscard]] layout::Block block(std::size_t number) const {
    return get<layout::Block>(block_at(number));
  }
  void set_block(std::size_t number, const layout::Block& record) { put(block_at(number), record); }
  [[nodiscard]] layout::Run run(std::size_t number) const {
    return get<layout::Run>(run_at(number));
  }
  void set_run(std::size_t number, const layout::Run& record) { put(run_at(number), record); }

  /// Makes all checksums agree that can be found.
  void seal() {
    if (image_.size() < std::max(sizeof(layout::Header), sizeof(layout::Footer))) return;
    seal_header();
    layout::Footer end = footer();
    seal_index(end);
    end.checksum = checksum(layout::bytes_of(end).first(offsetof(layout::Footer, checksum)));
    set_footer(end);
  }

 private:
  static constexpr std::size_t kFirstRegion = sizeof(layout::Header);

  template <class Record>
  [[nodiscard]] Record get(std::size_t at) const {
    return layout::record_at<Record>(image_, at);
  }
  template <class Record>
  void put(std::size_t at, const Record& record) {
    layout::put_record(image_, at, record);
  }
  [[nodiscard]] std::size_t footer_at() const { return image_.size() - sizeof(layout::Footer); }
  [[nodiscard]] std::size_t block_at(std::size_t number) const {
    return footer().index_offset + sizeof(layout::IndexHead) + number * sizeof(layout::Block);
  }
  [[nodiscard]] std::size_t run_at(std::size_t number) const {
    return block_at(index_head().block_count) + number * sizeof(layout::Run);
  }

  /// The part of the image, or nothing if it is not all there.
  [[nodiscard]] std::span<std::byte> part(std::uint64_t offset, std::uint64_t length) const {
    if (offset > image_.size() || length > image_.size() - offset) return {};
    return image_.subspan(offset, length);
  }

  void seal_header() {
    layout::Header record = header();
    record.checksum = 0;
    set_header(record);
    record.checksum = checksum(part(0, record.header_bytes));
    set_header(record);
  }

  void seal_index(layout::Footer& end) {
    const auto index = part(end.index_offset, end.index_bytes);
    if (index.size() < sizeof(layout::IndexHead)) return;
    const auto head = layout::record_at<layout::IndexHead>(index, 0);
    const std::uint64_t room = (index.size() - sizeof head) / sizeof(layout::Block);
    for (std::uint64_t i = 0; i < std::min(head.block_count, room); ++i) {
      const std::size_t at = sizeof head + i * sizeof(layout::Block);
      auto record = layout::record_at<layout::Block>(index, at);
      const auto stored = part(record.offset, record.stored_bytes);
      if (stored.empty()) continue;
      record.checksum = checksum(stored, layout::seed(header().id));
      layout::put_record(index, at, record);
    }
    end.index_checksum = checksum(index);
  }

  std::span<std::byte> image_;
};

}  // namespace pagetrap::checkpoint::test
