// Lists of system calls that another process makes for us, and the few bytes of code that make them
// there. The same code serves the cut of a running process and the birth of a restored one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// What a Call can be beside a system call.
enum Step : std::int64_t {
  kStop = -1,        // a breakpoint: the tracer looks, and lets it go on with the next call
  kJumpIfZero = -2,  // to call arguments[0] of the list, if the call before returned 0
  kThread = -3,      // clone3(arguments[0], arguments[1]); the thread makes the list arguments[2]
  kJump = -4,        // to call arguments[0]
  kReport = -5,      // signal arguments[0], which is ignored, tells the tracer. Without one the
                     // thread goes on as the signal frame before arguments[1] has it
};

/// Read by code that runs in the other process: no change of layout without carried.cpp.
struct Call {
  std::int64_t number = kStop;  // of the system call, or a Step
  std::uint64_t arguments[6] = {};
  std::int64_t result = 0;     // as the kernel gives it: -errno on failure
  std::uint32_t take = 0;      // not 0: arguments[0] is the result of call take - 1 of the list
  std::uint32_t may_fail = 0;  // 0: a failure is a breakpoint that nothing gets past; 2: it is
                               // for the reader of the results to see
};
static_assert(sizeof(Call) == 72);

class CallList {
 public:
  /// Returns the index of the call.
  template <class... Arguments>
  std::size_t add(std::int64_t number, Arguments... arguments) {
    Call call;
    call.number = number;
    std::size_t next = 0;
    ((call.arguments[next++] = std::uint64_t(arguments)), ...);
    calls_.push_back(call);
    return calls_.size() - 1;
  }
  template <class... Arguments>
  std::size_t try_to(std::int64_t number, Arguments... arguments) {
    const std::size_t index = add(number, arguments...);
    calls_[index].may_fail = 1;
    return index;
  }
  /// The last call's first argument is the result of call `index`.
  void take(std::size_t index) { calls_.back().take = static_cast<std::uint32_t>(index + 1); }

  [[nodiscard]] std::size_t size() const noexcept { return calls_.size(); }
  [[nodiscard]] std::size_t size_bytes() const noexcept { return calls_.size() * sizeof(Call); }
  Call& operator[](std::size_t index) noexcept { return calls_[index]; }
  const Call& operator[](std::size_t index) const noexcept { return calls_[index]; }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
    return std::as_bytes(std::span(calls_));
  }
  [[nodiscard]] std::span<std::byte> bytes() noexcept {
    return std::as_writable_bytes(std::span(calls_));
  }

 private:
  std::vector<Call> calls_;
};

/// Code that runs anywhere: put at the beginning of a page, and entered at entry_offset with the
/// address of the first Call in the first argument register and some hundred bytes of stack. At a
/// breakpoint the register of results has the address of its Call.
struct CarriedCode {
  std::span<const std::byte> bytes;  // less than a page
  std::size_t entry_offset = 0;
};
CarriedCode carried_code() noexcept;

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
