// Where the containers of libstdc++ and their nodes have pointers, if their allocator is
// store::Allocator (which is passed on to containers in containers without any adaptor): in the
// container itself, and in the blocks that it asks for. Never in hash codes, characters, or the
// padding of anything. tests/store/pointers_test.cpp compares all of it with containers at work.
#pragma once

#include <deque>
#include <forward_list>
#include <functional>
#include <list>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <pagetrap/core/config.hpp>
#include <pagetrap/store/allocator.hpp>

static_assert(pagetrap::detail::kLibstdcxx,
              "pagetrap knows the nodes of libstdc++ only: with another standard library use "
              "std::pmr containers (RelocationMode::by_value) or containers of your own");

namespace pagetrap {
inline namespace v0 {
namespace store {

namespace detail {

template <class A>
inline constexpr bool kIsOurs = false;
template <class T>
inline constexpr bool kIsOurs<Allocator<T>> = true;

/// Offsets of words, if the container has the size that they are meant for.
template <class Container, std::size_t Words, std::size_t... Offsets>
struct Layout {
  static void list(PointerWords& words, std::size_t at) {
    static_assert(sizeof(Container) == Words * 8,
                  "not the layout of libstdc++ 12 that pagetrap knows, or a comparison, hash or "
                  "equality with members");
    (words.add(at + Offsets * 8), ...);
  }
};

/// `links` pointers in front of the value, `Head` bytes in all.
template <class V, std::size_t Head, std::size_t... Links>
struct Node {
  static void list(PointerWords& words, std::size_t at) {
    static_assert(Described<V>,
                  "what this container holds does not say where it has pointers: specialise "
                  "pagetrap::store::Pointers for it");
    (words.add(at + Links * 8), ...);
    Pointers<std::remove_cv_t<V>>::list(words, at + align_up(Head, alignof(V)));
  }
};

template <class K>
constexpr bool refuse_addresses() {
  static_assert(!std::is_pointer_v<K>,
                "the hash of an address is good at this address only: hash what it points to");
  return true;
}

// Allocator, buckets, their count, first node, size, policy (2), the single bucket.
template <class Container>
struct HashTable : Layout<Container, 8, 0, 1, 3, 7> {
  static_assert(refuse_addresses<typename Container::key_type>());
};
// Allocator, comparison, then the header: colour, parent, leftmost, rightmost, size.
template <class Container>
using Tree = Layout<Container, 7, 0, 3, 4, 5>;

}  // namespace detail

template <class T, class A>
requires detail::kIsOurs<A>
struct Pointers<std::vector<T, A>> : detail::Layout<std::vector<T, A>, 4, 0, 1, 2, 3> {
};
// Its iterators are a pointer and a number each.
template <class A>
requires detail::kIsOurs<A>
struct Pointers<std::vector<bool, A>> : detail::Layout<std::vector<bool, A>, 6, 0, 1, 3, 5> {
};
template <class C, class A>
requires detail::kIsOurs<A>
struct Pointers<std::basic_string<C, std::char_traits<C>, A>>
    : detail::Layout<std::basic_string<C, std::char_traits<C>, A>, 5, 0, 1> {
};
// Allocator, map, its size, then two iterators of four pointers.
template <class T, class A>
requires detail::kIsOurs<A>
struct Pointers<std::deque<T, A>>
    : detail::Layout<std::deque<T, A>, 11, 0, 1, 3, 4, 5, 6, 7, 8, 9, 10> {
};
template <class T, class A>
requires detail::kIsOurs<A>
struct Pointers<std::list<T, A>> : detail::Layout<std::list<T, A>, 4, 0, 1, 2> {
};
template <class T, class A>
requires detail::kIsOurs<A>
struct Pointers<std::forward_list<T, A>> : detail::Layout<std::forward_list<T, A>, 2, 0, 1> {
};
template <class K, class V, class C, class A>
requires detail::kIsOurs<A>
struct Pointers<std::map<K, V, C, A>> : detail::Tree<std::map<K, V, C, A>> {
};
template <class K, class V, class C, class A>
requires detail::kIsOurs<A>
struct Pointers<std::multimap<K, V, C, A>> : detail::Tree<std::multimap<K, V, C, A>> {
};
template <class K, class C, class A>
requires detail::kIsOurs<A>
struct Pointers<std::set<K, C, A>> : detail::Tree<std::set<K, C, A>> {
};
template <class K, class C, class A>
requires detail::kIsOurs<A>
struct Pointers<std::multiset<K, C, A>> : detail::Tree<std::multiset<K, C, A>> {
};
template <class K, class V, class H, class E, class A>
requires detail::kIsOurs<A>
struct Pointers<std::unordered_map<K, V, H, E, A>>
    : detail::HashTable<std::unordered_map<K, V, H, E, A>> {
};
template <class K, class V, class H, class E, class A>
requires detail::kIsOurs<A>
struct Pointers<std::unordered_multimap<K, V, H, E, A>>
    : detail::HashTable<std::unordered_multimap<K, V, H, E, A>> {
};
template <class K, class H, class E, class A>
requires detail::kIsOurs<A>
struct Pointers<std::unordered_set<K, H, E, A>>
    : detail::HashTable<std::unordered_set<K, H, E, A>> {
};
template <class K, class H, class E, class A>
requires detail::kIsOurs<A>
struct Pointers<std::unordered_multiset<K, H, E, A>>
    : detail::HashTable<std::unordered_multiset<K, H, E, A>> {
};

// Colour, parent, left, right.
template <class V>
struct Pointers<std::_Rb_tree_node<V>> : detail::Node<V, 32, 1, 2, 3> {};
template <class V>
struct Pointers<std::_List_node<V>> : detail::Node<V, 16, 0, 1> {};
template <class V>
struct Pointers<std::_Fwd_list_node<V>> : detail::Node<V, 8, 0> {};
// The hash code, if there is one, is behind the value.
template <class V, bool Cached>
struct Pointers<std::__detail::_Hash_node<V, Cached>> : detail::Node<V, 8, 0> {};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
