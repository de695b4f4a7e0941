// checkpoint(): returns once in the process that goes on, and once in each that is restarted.
#include <pagetrap/checkpoint/protocol.hpp>
#include <pagetrap/checkpoint/self.hpp>

#include <ctime>

#include <atomic>
#include <cerrno>
#include <cstdlib>

#include "checkpoint/self/ask.hpp"
#include "checkpoint/self/hooks.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace {

constexpr timespec kTurn{0, 2'000'000};
constexpr unsigned kTurnsToAskAgain = 500;  // a second

}  // namespace

bool is_supervised() noexcept {
  static const char kNothing = 0;
  return static_cast<bool>(ask_supervisor("hello", &kNothing, -1));
}

Result<int> checkpoint() {
  std::atomic<std::uint32_t> word{protocol::kWanted};
  if (auto asked = ask_supervisor("self", &word, -1); !asked) return asked.error();
  // RACE the word is written by the supervisor while all threads of this process are stopped, or
  // (after the cut) while nobody else writes it. In the image it says kRestarted, whatever it says
  // here. A sleep that the cut interrupts begins anew or goes on: either way it is looked at again.
  for (unsigned turn = 1;; ++turn) {
    switch (word.load(std::memory_order_acquire)) {
      case protocol::kSaved:
        wait_for_hooks();
        return int{kAfterCheckpoint};
      case protocol::kRestarted:
        wait_for_hooks();
        return int{kAfterRestart};
      case protocol::kRefused:
        return Error{"checkpoint()",
                     ENOTSUP,
                     {},
                     "something cannot be saved: see the standard error of `pagetrap run`"};
      case protocol::kFailed:
        return Error{"checkpoint()", EIO, {}, "see the standard error of `pagetrap run`"};
      default:
        break;
    }
    ::nanosleep(&kTurn, nullptr);
    if (turn % kTurnsToAskAgain == 0 && !is_supervised())
      return Error{"checkpoint()", ENOTCONN, {}, "the supervisor has ended"};
  }
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
