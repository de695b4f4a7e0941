// Where objects have pointers: what a typed block of a store tells about itself, so that the store
// can be mapped somewhere else. Containers of the standard library: containers.hpp.
//
//   struct Account { Account* next; std::uint64_t balance; Text name; };
//   template <> struct pagetrap::store::Pointers<Account>
//       : pagetrap::store::Members<&Account::next, &Account::balance, &Account::name> {};
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace store {

/// Collects the words of an object that are pointers, in units of 8 bytes.
class PointerWords {
 public:
  void add(std::size_t offset) { words_.push_back(static_cast<std::uint32_t>(offset / 8)); }
  [[nodiscard]] const std::vector<std::uint32_t>& words() const noexcept { return words_; }
  void sort() { std::sort(words_.begin(), words_.end()); }

 private:
  std::vector<std::uint32_t> words_;  // of 8 bytes
};

/// Specialise it for your types: derive from Members, or NoPointers, or PointersAt. What it lists
/// need not hold a pointer all the time, nor one into the store: a word that is none is left alone
/// unless its value is an address of the store.
template <class T>
struct Pointers {};

/// Whether a type says so: those below, what containers.hpp has, and what you have specialised.
template <class T>
concept Described = requires(PointerWords& words) {
  Pointers<std::remove_cv_t<T>>::list(words, std::size_t{0});
};

struct NoPointers {
  static void list(PointerWords&, std::size_t) {}
};

/// By offset, from `offsetof`: for classes that Members cannot see through.
template <std::size_t... Offsets>
struct PointersAt {
  static_assert(((Offsets % 8 == 0) && ...), "pointers are aligned");
  static void list(PointerWords& words, std::size_t at) { (words.add(at + Offsets), ...); }
};

namespace detail {

constexpr std::size_t align_up(std::size_t at, std::size_t alignment) noexcept {
  return (at + alignment - 1) / alignment * alignment;
}

template <auto Member>
struct MemberOf;
template <class C, class M, M C::*Member>
struct MemberOf<Member> {
  using Class = C;
  using Type = M;
  // The Itanium C++ ABI: a pointer to a data member is its offset. Compilers do not convert it in
  // constant expressions.
  static std::size_t offset() noexcept {
    static_assert(sizeof(Member) == sizeof(std::ptrdiff_t));
    return static_cast<std::size_t>(std::bit_cast<std::ptrdiff_t>(Member));
  }
};

/// The size that a class has when these are all its members, in order.
template <class C, class... Types>
constexpr std::size_t size_of_members() noexcept {
  std::size_t end = 0;
  ((end = align_up(end, alignof(Types)) + sizeof(Types)), ...);
  return align_up(end, alignof(C));
}

}  // namespace detail

/// All data members of a class without bases, in the order of their declaration: one that was
/// forgotten is an error of compilation, as far as it has room of its own.
template <auto First, auto... Rest>
struct Members {
  using Class = typename detail::MemberOf<First>::Class;

  static void list(PointerWords& words, std::size_t at) {
    static_assert((std::is_same_v<typename detail::MemberOf<Rest>::Class, Class> && ...),
                  "Members are of one class");
    static_assert(
        detail::size_of_members<Class, typename detail::MemberOf<First>::Type,
                                typename detail::MemberOf<Rest>::Type...>() == sizeof(Class),
        "Members lists ALL data members in the order of their declaration, of a class without "
        "bases and virtual functions; PointersAt is for others");
    one<First>(words, at);
    (one<Rest>(words, at), ...);
  }

 private:
  template <auto Member>
  static void one(PointerWords& words, std::size_t at) {
    using Type = std::remove_cv_t<typename detail::MemberOf<Member>::Type>;
    static_assert(Described<Type>,
                  "a member's type does not say where it has pointers: specialise "
                  "pagetrap::store::Pointers for it (Members, NoPointers, PointersAt); containers "
                  "need <pagetrap/store/containers.hpp> and pagetrap::store::Allocator");
    Pointers<Type>::list(words, at + detail::MemberOf<Member>::offset());
  }
};

template <class T>
requires(std::is_arithmetic_v<T> || std::is_enum_v<T> ||
         std::is_null_pointer_v<T>) struct Pointers<T> : NoPointers {
};

template <class T>
struct Pointers<T*> : PointersAt<0> {};

template <class T, std::size_t N>
requires Described<T>
struct Pointers<T[N]> {
  static void list(PointerWords& words, std::size_t at) {
    PointerWords one;
    Pointers<std::remove_cv_t<T>>::list(one, 0);
    if (one.words().empty()) return;
    for (std::size_t i = 0; i < N; ++i)
      Pointers<std::remove_cv_t<T>>::list(words, at + i * sizeof(T));
  }
};

template <class T, std::size_t N>
requires Described<T>
struct Pointers<std::array<T, N>> : Pointers<T[N]> {
};
template <class T>
struct Pointers<std::array<T, 0>> : NoPointers {};

template <class A, class B>
requires(Described<A>&& Described<B>) struct Pointers<std::pair<A, B>> {
  static void list(PointerWords& words, std::size_t at) {
    static_assert(detail::size_of_members<std::pair<A, B>, A, B>() == sizeof(std::pair<A, B>));
    Pointers<std::remove_cv_t<A>>::list(words, at);
    Pointers<std::remove_cv_t<B>>::list(words, at + detail::align_up(sizeof(A), alignof(B)));
  }
};

/// What it holds is at its beginning.
template <class T>
requires Described<T>
struct Pointers<std::optional<T>> : Pointers<std::remove_cv_t<T>> {
  static_assert(sizeof(std::optional<T>) == detail::align_up(sizeof(T) + 1, alignof(T)));
};

/// A type as a block is told of it: the pointers of one element.
struct TypeMap {
  std::size_t element_words = 1;
  const std::uint32_t* words = nullptr;  // sorted
  std::size_t count = 0;
};

template <class T>
const TypeMap& type_map() {
  static_assert(!std::is_polymorphic_v<T>,
                "objects with virtual functions do not survive: the address of their table is "
                "another in every process");
  static_assert(Described<T>,
                "this type does not say where it has pointers: specialise "
                "pagetrap::store::Pointers for it (Members, NoPointers, PointersAt), include "
                "<pagetrap/store/containers.hpp> for containers, or use std::pmr, whose blocks "
                "are relocated by value only");
  static const TypeMap map = [] {
    // For ever: objects may still be made when other statics have gone.
    auto& found = *new PointerWords;
    Pointers<std::remove_cv_t<T>>::list(found, 0);
    found.sort();
    return TypeMap{(sizeof(T) + 7) / 8, found.words().data(), found.words().size()};
  }();
  return map;
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
