// What a transaction's body is given, and what is left of it: its place in the log.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace store {

class StoreState;  // src/store/store_state.hpp
class Store;

/// A place in the log: commits that are before it are durable when Store::wait() returns.
struct Position {
  std::uint64_t end = 0;
  friend auto operator<=>(const Position&, const Position&) = default;
};

/// What a transaction's body may be given.
class Transaction {
 public:
  /// `length` bytes at `address` are about to change. Needed with Detect::barrier only.
  PAGETRAP_API void write(const void* address, std::size_t length);
  /// Leave the transaction, which is undone; Store::transaction() returns Error{ECANCELED}.
  [[noreturn]] void abort() { throw Aborted{}; }

 private:
  friend class Store;
  struct Aborted {};
  explicit Transaction(StoreState& state) noexcept : state_(state) {}
  StoreState& state_;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
