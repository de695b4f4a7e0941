// StrayPointers: values that are addresses of what this process has mapped, but not of the store.
// In the next process they mean something else. For StoreOptions::check_pointers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <pagetrap/core/result.hpp>

#include "sys/address_space.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

class StrayPointers {
 public:
  /// A new transaction: mappings may be read again, once.
  void begin() noexcept { is_fresh_ = false; }
  /// What is mapped at `value`; "": nothing.
  Result<std::string> what_is_at(std::uint64_t value);

 private:
  [[nodiscard]] const sys::MappedRange* find(std::uint64_t value) const noexcept;
  std::vector<sys::MappedRange> known_;
  bool is_fresh_ = false;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
