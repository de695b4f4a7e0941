// What an arena knows of a type: enough to name an object that is gone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

/// And how its objects lie in their spans: at compile time, since destroy() needs it each time.
struct ObjectType {
  std::string_view name;
  std::size_t size_bytes = 0;
  std::uint32_t stride = 0;  // from one object to the next; a multiple of the granule
  std::uint32_t count = 0;   // objects in a span, or in a group of spans
  std::uint32_t spans = 0;   // that belong together
};

namespace detail {

inline constexpr std::size_t kGranule = 16;      // objects begin at multiples
inline constexpr std::size_t kSpan = 64_KiB;     // of objects of one type
inline constexpr std::size_t kLargest = 16_KiB;  // of which a span holds several

constexpr ObjectType object_type(std::string_view name, std::size_t size_bytes,
                                 std::size_t alignment) noexcept {
  const std::size_t unit = alignment > kGranule ? alignment : kGranule;
  const std::size_t stride = (size_bytes + unit - 1) / unit * unit;
  const bool several = stride <= kLargest;
  return {name, size_bytes, static_cast<std::uint32_t>(stride),
          static_cast<std::uint32_t>(several ? kSpan / stride : 1),
          static_cast<std::uint32_t>(several ? 1 : (stride + kSpan - 1) / kSpan)};
}

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
inline constexpr ObjectType kObjectType = object_type(type_name<T>(), sizeof(T), alignof(T));

}  // namespace detail
}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
