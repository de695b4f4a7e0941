// Writing to a descriptor so that nothing is forgotten: short writes, interruptions, descriptors
// that do not wait, and the signals that come with some errors.
#pragma once

#include <signal.h>

#include <cstddef>
#include <span>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

/// For a scope of the calling thread, keeps the signals that write(2) raises beside its error from
/// the program: SIGPIPE (EPIPE) and SIGXFSZ (EFBIG). They are blocked, and one that has come by
/// the end is taken away, unless it was there before.
class WriteSignalsHeld {
 public:
  WriteSignalsHeld() noexcept;
  ~WriteSignalsHeld();
  WriteSignalsHeld(const WriteSignalsHeld&) = delete;
  WriteSignalsHeld& operator=(const WriteSignalsHeld&) = delete;

 private:
  sigset_t old_mask_;
  sigset_t not_pending_;  // of the two
};

/// All of `bytes`. 0, or errno.
int write_whole(int descriptor, std::span<const std::byte> bytes) noexcept;

/// fsync(2), tried again when interrupted. 0, or errno.
int flush(int descriptor) noexcept;

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
