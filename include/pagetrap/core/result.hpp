// Result and Error: how set-up and control calls report refusals. A kernel's refusal (ENOMEM,
// EAGAIN, EPERM) is an ordinary result here, never an abort.
#pragma once

#include <cstdint>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {

/// Why a call failed. Trivially copyable: may be made and returned on a fault path.
struct Error {
  const char* operation = "";  // a literal: "mprotect", "UFFDIO_COPY", "Region::create"
  int number = 0;              // errno value
  PageRange range{};           // what it was asked to act on, if anything
  const char* remedy = "";     // a literal: what the caller can do about it, may be empty
  std::int64_t position = -1;  // byte offset in a file, if the error is about one
};
static_assert(std::is_trivially_copyable_v<Error>);

/// `error` as one line: operation, range or position, errno by name and in words, remedy.
/// Allocates.
PAGETRAP_API std::string describe(const Error& error);

/// What Result::value() throws. what() is describe(error()).
class PAGETRAP_API SystemError : public std::system_error {
 public:
  explicit SystemError(const Error& error);
  [[nodiscard]] const Error& error() const noexcept { return error_; }
  [[nodiscard]] const char* what() const noexcept override { return words_.c_str(); }

 private:
  Error error_;
  std::string words_;
};

/// The value of a Result that carries none.
struct Done {};

/// A value or an Error. `if (!result) use(result.error())`, or `.value()` which throws SystemError:
/// both camps of C++ users are served by one function.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, error) {}

  explicit operator bool() const noexcept PAGETRAP_SIGNAL_SAFE { return state_.index() == 0; }

  /// Precondition: !*this.
  [[nodiscard]] const Error& error() const noexcept PAGETRAP_SIGNAL_SAFE {
    return *std::get_if<1>(&state_);
  }

  T& value() & {
    throw_if_error();
    return *std::get_if<0>(&state_);
  }
  const T& value() const& {
    throw_if_error();
    return *std::get_if<0>(&state_);
  }
  T value() && {
    throw_if_error();
    return std::move(*std::get_if<0>(&state_));
  }

  /// Unchecked. Precondition: *this holds a value.
  T& operator*() noexcept PAGETRAP_SIGNAL_SAFE { return *std::get_if<0>(&state_); }
  const T& operator*() const noexcept PAGETRAP_SIGNAL_SAFE { return *std::get_if<0>(&state_); }
  T* operator->() noexcept PAGETRAP_SIGNAL_SAFE { return std::get_if<0>(&state_); }
  const T* operator->() const noexcept PAGETRAP_SIGNAL_SAFE { return std::get_if<0>(&state_); }

 private:
  void throw_if_error() const {
    if (!*this) throw SystemError(error());
  }
  std::variant<T, Error> state_;
};

}  // namespace v0
}  // namespace pagetrap
