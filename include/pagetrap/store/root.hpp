// What a named root remembers of its type, so that a program with another idea of it is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <unordered_set>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace store {

/// Specialise it for a type whose members change meaning while its name and size stay:
///   template <> inline constexpr std::uint32_t pagetrap::store::schema_version<Account> = 2;
template <class T>
inline constexpr std::uint32_t schema_version = 0;

/// A type as a root has it.
struct TypeMark {
  const char* name = "";  // as the compiler mangles it
  std::size_t size = 0;
  std::size_t alignment = 0;
  std::uint32_t version = 0;
  std::uint32_t library = 0;  // layout of std::string and std::list in this program
};

/// Sizes that tell the ABIs of libstdc++ from each other, and from other libraries.
inline constexpr auto kLibraryLayout = static_cast<std::uint32_t>(
    sizeof(std::string) | sizeof(std::list<int>) << 8 | sizeof(std::unordered_set<int>) << 16);

/// One number of it all.
PAGETRAP_API std::uint64_t fingerprint(const TypeMark& mark) noexcept;

template <class T>
TypeMark type_mark() noexcept {
  static_assert(!std::is_polymorphic_v<T>,
                "objects with virtual functions do not survive: the address of their table is "
                "another in every process");
  static_assert(!std::is_pointer_v<T> && !std::is_reference_v<T>);
  return {typeid(T).name(), sizeof(T), alignof(T), schema_version<T>, kLibraryLayout};
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
