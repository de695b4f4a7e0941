// binary-trees in the shape of the Benchmarks Game, and GCBench of Ellis, Kovac and Boehm.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gc/allocators.hpp"

namespace pagetrap::bench {

template <class Allocator, class Node = typename Allocator::Node>
Node* make_tree(Allocator& allocator, int depth) {
  if (depth <= 0) return allocator.template make<Node>();
  Node* const left = make_tree<Allocator, Node>(allocator, depth - 1);
  Node* const right = make_tree<Allocator, Node>(allocator, depth - 1);
  return allocator.template make<Node>(left, right);
}

template <class Node>
std::size_t count_nodes(const Node* node) {
  return node->left == nullptr ? 1
                               : 1 + count_nodes<Node>(node->left) + count_nodes<Node>(node->right);
}

template <class Allocator, class Node>
void drop_tree(Allocator& allocator, Node* node) {
  if constexpr (!Allocator::kCollects) {
    if (node == nullptr) return;
    drop_tree(allocator, node->left);
    drop_tree(allocator, node->right);
    allocator.drop(node);
  }
}

/// All nodes that it counted: the same for every allocator.
template <class Allocator>
[[gnu::noinline]] std::size_t binary_trees(Allocator& allocator, int size) {
  using Node = typename Allocator::Node;
  constexpr int kSmallest = 4;
  std::size_t nodes = 0;
  {
    Node* const stretch = make_tree(allocator, size + 1);
    nodes += count_nodes(stretch);
    drop_tree(allocator, stretch);
  }
  typename Allocator::template Keeper<Node> long_lived(allocator, make_tree(allocator, size));
  for (int depth = kSmallest; depth <= size; depth += 2) {
    for (std::size_t i = std::size_t{1} << (size - depth + kSmallest); i > 0; --i) {
      Node* const tree = make_tree(allocator, depth);
      nodes += count_nodes(tree);
      drop_tree(allocator, tree);
    }
  }
  nodes += count_nodes(long_lived.get());
  drop_tree(allocator, long_lived.get());
  return nodes;
}

/// What binary_trees() counts.
inline std::size_t binary_trees_nodes(int size) {
  const auto nodes_of = [](int depth) { return (std::size_t{2} << depth) - 1; };
  std::size_t nodes = nodes_of(size + 1) + nodes_of(size);
  for (int depth = 4; depth <= size; depth += 2) nodes += nodes_of(depth) << (size - depth + 4);
  return nodes;
}

template <class Allocator, class Node>
void populate(Allocator& allocator, int depth, Node* node) {
  if (depth <= 0) return;
  node->left = allocator.template make<Node>();
  node->right = allocator.template make<Node>();
  populate<Allocator, Node>(allocator, depth - 1, node->left);
  populate<Allocator, Node>(allocator, depth - 1, node->right);
}

struct GcBenchSize {
  int stretch = 20;
  int depth = 18;
  std::size_t numbers = 4'000'000;
};

/// A check of what lives long: the same for every allocator.
template <class Allocator>
[[gnu::noinline]] std::size_t gcbench(Allocator& allocator, const GcBenchSize& size) {
  using Node = typename Allocator::WideNode;
  const auto nodes_of = [](int depth) { return (std::size_t{2} << depth) - 1; };
  drop_tree(allocator, make_tree<Allocator, Node>(allocator, size.stretch));
  typename Allocator::template Keeper<Node> long_lived(allocator, allocator.template make<Node>());
  populate<Allocator, Node>(allocator, size.depth, long_lived.get());
  double* const numbers = allocator.make_numbers(size.numbers);
  for (std::size_t i = 0; i < size.numbers / 2; ++i) numbers[i] = 1.0 / static_cast<double>(i + 1);
  for (int depth = 4; depth <= size.depth; depth += 2) {
    for (std::size_t i = 2 * nodes_of(size.stretch) / nodes_of(depth); i > 0; --i) {
      Node* const top_down = allocator.template make<Node>();
      populate<Allocator, Node>(allocator, depth, top_down);
      drop_tree(allocator, top_down);
      drop_tree(allocator, make_tree<Allocator, Node>(allocator, depth));
    }
  }
  const std::size_t check = count_nodes(long_lived.get()) + (numbers[1000] == 1.0 / 1001 ? 1 : 0);
  drop_tree(allocator, long_lived.get());
  allocator.drop(numbers);
  return check;
}

}  // namespace pagetrap::bench
