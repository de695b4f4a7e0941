// How a process talks to whoever supervises it: a line to an abstract unix socket whose name is in
// PAGETRAP_CHECKPOINT, and words in the process's own memory, which the supervisor reads and
// writes. No descriptor is open during a cut, since no image could have it.
// docs/formats/process.md.
#pragma once

#include <cstdint>

#include <pagetrap/core/config.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace protocol {

inline constexpr const char* kVariable = "PAGETRAP_CHECKPOINT";

/// "self ADDRESS\n": a checkpoint is wanted; the answer is "ok\n". ADDRESS (hexadecimal) is that of
/// a word:
enum Wish : std::uint32_t {
  kWanted = 0,
  kSaving = 1,     // the cut was taken
  kRestarted = 2,  // what the image has
  kSaved = 3,
  kRefused = 4,
  kFailed = 5,
};

/// "hooks ADDRESS\n", with an eventfd (SCM_RIGHTS) that wakes the thread for hooks; the answer is
/// "ok\n". The word:
enum Hook : std::uint32_t {
  kIdle = 0,
  kPrepare = 1,  // run before_cut
  kReady = 2,    // it has run
  kGoOn = 3,     // run after_cut, then idle
  kBegin = 4,    // what the image has: run after_restart
};

}  // namespace protocol
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
