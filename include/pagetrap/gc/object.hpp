// object and leaf: what a type says to be collected, and its layout.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <tuple>
#include <type_traits>

#include <pagetrap/core/config.hpp>
#include <pagetrap/gc/fields.hpp>
#include <pagetrap/gc/ref.hpp>
#include <pagetrap/gc/type.hpp>

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// Base of collected types with references, which they list:
///
///     struct Node : gc::object<Node> {
///       gc::ref<Node> left, right;
///       int value = 0;
///       static constexpr auto members = gc::members(&Node::left, &Node::right);
///     };
///
/// A reference that is not listed is a compile-time error. A destructor, if there is one, runs
/// once, after the object is found dead, in the collector's thread: it may not follow references,
/// which may be dead too. Alignment is at most 8.
template <class T>
struct object {};

/// Base of collected types without references. They live in pages that are never protected.
template <class T>
struct leaf {};

namespace detail {

template <class Member>
struct MemberOf;
template <class T, class Field>
struct MemberOf<Field T::*> {
  using Class = T;
  using Type = Field;
};

template <class Field>
inline constexpr bool is_listable = is_ref<Field>;
template <class T, std::size_t kCount>
inline constexpr bool is_listable<std::array<T, kCount>> = is_ref<T>;

/// A list of members, as gc::members() makes it.
template <bool kChecked, class... Member>
struct Members {
  static_assert((is_listable<typename MemberOf<Member>::Type> && ...),
                "members: gc::ref<T>, or std::array of them");
  static constexpr bool checked = kChecked;
  static constexpr std::size_t references =
      (references_in<typename MemberOf<Member>::Type> + ... + 0);
  /// Those that all members have.
  static constexpr auto barriers = static_cast<Barriers>(
      (static_cast<unsigned>(barriers_of<typename MemberOf<Member>::Type>) & ... & 3U));
  std::tuple<Member...> pointers;

  /// Whether no member is listed twice.
  [[nodiscard]] constexpr bool distinct() const { return distinct_from<0, 1>(); }

 private:
  template <std::size_t kOne, std::size_t kOther>
  [[nodiscard]] constexpr bool distinct_from() const {
    if constexpr (kOne + 1 >= sizeof...(Member)) {
      return true;
    } else if constexpr (kOther >= sizeof...(Member)) {
      return distinct_from<kOne + 1, kOne + 2>();
    } else {
      using One = std::tuple_element_t<kOne, std::tuple<Member...>>;
      using Other = std::tuple_element_t<kOther, std::tuple<Member...>>;
      if constexpr (std::is_same_v<One, Other>) {
        if (std::get<kOne>(pointers) == std::get<kOther>(pointers)) return false;
      }
      return distinct_from<kOne, kOther + 1>();
    }
  }
};

template <class T>
inline constexpr bool is_object = std::is_base_of_v<object<T>, T>;
template <class T>
inline constexpr bool is_leaf = std::is_base_of_v<leaf<T>, T>;

template <class T>
concept ListsMembers = requires {
  T::members.pointers;
};

/// Compiles only if T says all that it must.
template <class T>
constexpr void check_type() {
  static_assert(is_object<T> || is_leaf<T>, "derive from gc::object<T> or gc::leaf<T>");
  static_assert(alignof(T) <= 8, "collected objects are aligned to 8 bytes");
  if constexpr (is_leaf<T>) {
    if constexpr (std::is_aggregate_v<T>)
      static_assert(references_of_fields<T, true>() == 0, "a gc::leaf may not have references");
  } else {
    static_assert(ListsMembers<T>, "list: static constexpr auto members = gc::members(...)");
    if constexpr (ListsMembers<T>) {
      static_assert(T::members.distinct(), "gc::members lists a member twice");
      constexpr bool kCounted = !decltype(T::members)::checked || std::is_aggregate_v<T>;
      static_assert(kCounted,
                    "fields of a class with constructors or private parts cannot be counted: use "
                    "gc::unchecked_members");
      if constexpr (decltype(T::members)::checked && kCounted)
        static_assert(references_of_fields<T, true>() == decltype(T::members)::references,
                      "gc::members does not list every gc::ref of this type");
    }
  }
}

template <class T, class Field>
std::uint32_t word_of(Field T::*member) noexcept {
  alignas(T) static const std::array<std::byte, sizeof(T)> space{};
  const T* const object = reinterpret_cast<const T*>(space.data());
  const auto* const field = reinterpret_cast<const std::byte*>(std::addressof(object->*member));
  return static_cast<std::uint32_t>((field - space.data()) / 8);
}

/// All words of T that are references, ascending.
template <class T>
auto reference_words() noexcept {
  std::array<std::uint32_t, decltype(T::members)::references> words{};
  auto* next = words.data();
  const auto add = [&](auto member) {
    constexpr std::size_t kCount = references_in<typename MemberOf<decltype(member)>::Type>;
    const std::uint32_t first = word_of<T>(member);
    for (std::uint32_t i = 0; i < kCount; ++i) *next++ = first + i;
  };
  std::apply([&](auto... member) { (add(member), ...); }, T::members.pointers);
  std::sort(words.begin(), words.end());
  return words;
}

template <class T>
void destroy(void* object) noexcept {
  static_cast<T*>(object)->~T();
}

/// T's descriptor.
template <class T>
const Type& type_of() noexcept {
  check_type<T>();
  constexpr auto kDestroy = std::is_trivially_destructible_v<T> ? nullptr : &destroy<T>;
  if constexpr (!ListsMembers<T>) {
    static constexpr Type kType{Layout::leaf, 0, nullptr, kDestroy};
    return kType;
  } else {
    static const auto words = reference_words<T>();
    static const Type type{words.empty() ? Layout::leaf : Layout::fields,
                           static_cast<std::uint32_t>(words.size()), words.data(), kDestroy,
                           T::members.barriers};
    return type;
  }
}

}  // namespace detail

/// The references of a type, for its `members`. Each is a gc::ref or a std::array of them.
template <class... Member>
constexpr auto members(Member... member) noexcept {
  return detail::Members<true, Member...>{{member...}};
}

/// The same for types whose fields cannot be counted (constructors, private or virtual parts): one
/// that is forgotten here is an object lost.
template <class... Member>
constexpr auto unchecked_members(Member... member) noexcept {
  return detail::Members<false, Member...>{{member...}};
}

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
