// A program with much old data that writes a part of its pages between two flips, evenly spread:
// how much of it is written is what decides between pages and instructions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <pagetrap/gc/gc.hpp>

#include "harness/clock.hpp"

namespace pagetrap::bench {

template <template <class> class Ref>
class OldWrites {
 public:
  /// `bytes` of old nodes, in the order of the row that leads to them.
  OldWrites(gc::Heap& heap, std::size_t nursery_bytes, std::size_t bytes)
      : heap_(heap),
        batches_(nursery_bytes / (kBatch * kTemporaryBytes)),
        row_(heap, heap.make_array<Ref<Node>>(bytes / kNodeBytes)) {
    for (std::size_t i = 0; i < row_->size(); ++i) (*row_)[i] = heap.make<Node>();
    for (int i = 0; i < 3; ++i) heap.collect(false);
  }

  /// Allocates `nurseries` whole nurseries, and writes `share` of the old pages in each. What one
  /// of them takes, in nanoseconds; -1 if something was lost.
  double run(std::size_t nurseries, double share) {
    const auto pages = row_->size() / kNodesPerPage;
    const double writes_per_batch =
        share * static_cast<double>(pages) / static_cast<double>(batches_);
    double due = 0;
    const double begin = now_ns();
    for (std::size_t i = 0; i < nurseries * batches_; ++i) {
      if (!make_batch(i)) return -1;
      for (due += writes_per_batch; due >= 1; due -= 1) write_next_page(pages);
    }
    const double elapsed = now_ns() - begin;
    return is_whole() ? elapsed / static_cast<double>(nurseries) : -1;
  }

 private:
  struct Temporary : gc::object<Temporary> {
    Ref<Temporary> next;
    std::array<std::uint64_t, 2> words{};
    static constexpr auto members = gc::members(&Temporary::next);
  };
  struct Node : gc::object<Node> {
    Ref<Temporary> fresh;
    Ref<Node> other;
    std::array<std::uint64_t, 5> words{};
    static constexpr auto members = gc::members(&Node::fresh, &Node::other);
  };
  // With their headers: a nursery is what lies between two flips.
  static constexpr std::size_t kTemporaryBytes = 8 + sizeof(Temporary);
  static constexpr std::size_t kNodeBytes = 8 + sizeof(Node);
  static constexpr std::size_t kNodesPerPage = 4096 / kNodeBytes;
  static constexpr std::size_t kBatch = 4;

  // What every program does most of the time.
  bool make_batch(std::uint64_t number) {
    Temporary* list = nullptr;
    for (std::size_t i = 0; i < kBatch; ++i) {
      Temporary* const next = list;
      list = heap_.template make<Temporary>();
      list->next = next;
      list->words[0] = number;
    }
    std::uint64_t sum = 0;
    for (; list != nullptr; list = list->next) sum += list->words[0];
    return sum == kBatch * number;
  }
  // Steps of a golden ratio come to every page once before they come to one again.
  void write_next_page(std::size_t pages) {
    at_ = (at_ + static_cast<std::size_t>(static_cast<double>(pages) * 0.618) / 2 * 2 + 1) % pages;
    const std::size_t number = at_ * kNodesPerPage + ++written_ % kNodesPerPage;
    Temporary* const fresh = heap_.template make<Temporary>();
    fresh->words[0] = number;
    Node* const node = (*row_)[number];
    node->fresh = fresh;
    node->words[0] = number;
  }
  bool is_whole() {
    for (std::size_t i = 0; i < row_->size(); i += 61) {
      const Node* const node = (*row_)[i];
      if (node == nullptr) return false;
      if (node->fresh != nullptr && node->fresh->words[0] != node->words[0]) return false;
    }
    return true;
  }

  gc::Heap& heap_;
  std::size_t batches_;
  gc::root<gc::array<Ref<Node>>> row_;
  std::size_t at_ = 0;
  std::size_t written_ = 0;
};

}  // namespace pagetrap::bench
