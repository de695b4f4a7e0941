// The references of an aggregate, counted at compile time, so that a forgotten one is an error.
#pragma once

#include <array>
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include <pagetrap/core/config.hpp>
#include <pagetrap/gc/ref.hpp>

namespace pagetrap {
inline namespace v0 {
namespace gc {
namespace detail {

/// Whether T{base, n fields} or T{n fields} is well formed.
template <class T, bool kHasBase, std::size_t... kFields>
constexpr bool takes(std::index_sequence<kFields...>) {
  if constexpr (kHasBase) {
    return requires { T{{}, (static_cast<void>(kFields), Anything{})...}; };
  } else {
    return requires { T{(static_cast<void>(kFields), Anything{})...}; };
  }
}

inline constexpr std::size_t kMostFields = 16;

/// How many fields an aggregate has; more than kMostFields count as that and one.
template <class T, bool kHasBase, std::size_t kGuess = kMostFields + 1>
constexpr std::size_t count_fields() {
  if constexpr (takes<T, kHasBase>(std::make_index_sequence<kGuess>{})) {
    return kGuess;
  } else if constexpr (kGuess == 0) {
    return 0;
  } else {
    return count_fields<T, kHasBase, kGuess - 1>();
  }
}

/// The fields' types, as a tuple of references.
template <std::size_t kCount, class T>
constexpr auto fields_of(T& t) {
  if constexpr (kCount == 0) {
    return std::tie();
  } else if constexpr (kCount == 1) {
    auto& [a] = t;
    return std::tie(a);
  } else if constexpr (kCount == 2) {
    auto& [a, b] = t;
    return std::tie(a, b);
  } else if constexpr (kCount == 3) {
    auto& [a, b, c] = t;
    return std::tie(a, b, c);
  } else if constexpr (kCount == 4) {
    auto& [a, b, c, d] = t;
    return std::tie(a, b, c, d);
  } else if constexpr (kCount == 5) {
    auto& [a, b, c, d, e] = t;
    return std::tie(a, b, c, d, e);
  } else if constexpr (kCount == 6) {
    auto& [a, b, c, d, e, f] = t;
    return std::tie(a, b, c, d, e, f);
  } else if constexpr (kCount == 7) {
    auto& [a, b, c, d, e, f, g] = t;
    return std::tie(a, b, c, d, e, f, g);
  } else if constexpr (kCount == 8) {
    auto& [a, b, c, d, e, f, g, h] = t;
    return std::tie(a, b, c, d, e, f, g, h);
  } else if constexpr (kCount == 9) {
    auto& [a, b, c, d, e, f, g, h, i] = t;
    return std::tie(a, b, c, d, e, f, g, h, i);
  } else if constexpr (kCount == 10) {
    auto& [a, b, c, d, e, f, g, h, i, j] = t;
    return std::tie(a, b, c, d, e, f, g, h, i, j);
  } else if constexpr (kCount == 11) {
    auto& [a, b, c, d, e, f, g, h, i, j, k] = t;
    return std::tie(a, b, c, d, e, f, g, h, i, j, k);
  } else if constexpr (kCount == 12) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l] = t;
    return std::tie(a, b, c, d, e, f, g, h, i, j, k, l);
  } else if constexpr (kCount == 13) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m] = t;
    return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m);
  } else if constexpr (kCount == 14) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = t;
    return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n);
  } else if constexpr (kCount == 15) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o] = t;
    return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o);
  } else {
    static_assert(kCount == kMostFields,
                  "a collected type may have 16 fields; more need gc::unchecked_members()");
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = t;
    return std::tie(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p);
  }
}

template <class T>
struct ReferencesIn;

/// References in `T`, wherever they are inside it.
template <class T>
inline constexpr std::size_t references_in = ReferencesIn<std::remove_cv_t<T>>::value;

template <class Fields>
struct ReferencesAmong;
template <class... Fields>
struct ReferencesAmong<std::tuple<Fields&...>> {
  static constexpr std::size_t value = (references_in<Fields> + ... + 0);
};

/// References of an aggregate's fields. `kHasBase`: it has one base, which is empty.
template <class T, bool kHasBase>
constexpr std::size_t references_of_fields() {
  using Fields = decltype(fields_of<count_fields<T, kHasBase>()>(std::declval<T&>()));
  return ReferencesAmong<Fields>::value;
}

template <class T>
struct ReferencesIn {
  static constexpr std::size_t count() {
    if constexpr (std::is_class_v<T> && std::is_aggregate_v<T> && !std::is_empty_v<T>) {
      return references_of_fields<T, false>();
    } else {
      return 0;
    }
  }
  static constexpr std::size_t value = count();
};
template <class T>
requires is_ref<T>
struct ReferencesIn<T> {
  static constexpr std::size_t value = 1;
};
template <class T, std::size_t kCount>
struct ReferencesIn<std::array<T, kCount>> {
  static constexpr std::size_t value = kCount * references_in<T>;
};
template <class T, std::size_t kCount>
struct ReferencesIn<T[kCount]> {
  static constexpr std::size_t value = kCount * references_in<T>;
};
// std::vector<gc::ref<T>> and its kin keep them where no collector looks.
template <template <class...> class Container, class... Arguments>
requires(!is_ref<Container<Arguments...>> &&
         (is_ref<Arguments> || ...)) struct ReferencesIn<Container<Arguments...>> {
  static_assert(sizeof(Container<Arguments...>) == 0,
                "references inside a container are not seen by the collector: use gc::array");
  static constexpr std::size_t value = 0;
};

}  // namespace detail
}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
