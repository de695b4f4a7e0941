// What an arena knows of a type: enough to name an object that is gone.
#pragma once

#include <cstddef>
#include <string_view>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

struct ObjectType {
  std::string_view name;
  std::size_t size_bytes = 0;
  std::size_t alignment = 0;
};

namespace detail {

/// "Node" out of "... [with T = Node; ...]" (g++) or "... [T = Node]" (clang). At compile time, so
/// that a fault handler has nothing to demangle.
template <class T>
constexpr std::string_view type_name() noexcept {
  constexpr std::string_view kBefore = "T = ";
  const std::string_view words = __PRETTY_FUNCTION__;
  const std::size_t begin = words.find(kBefore) + kBefore.size();
  const std::size_t end = words.find(';', begin);
  return words.substr(begin, (end == std::string_view::npos ? words.rfind(']') : end) - begin);
}

template <class T>
inline constexpr ObjectType kObjectType{type_name<T>(), sizeof(T), alignof(T)};

}  // namespace detail
}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
