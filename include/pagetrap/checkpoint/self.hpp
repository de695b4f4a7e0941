// For a program that knows that it is saved as a whole: it can ask for a checkpoint, and be told of
// those that others ask for. Without `pagetrap run --checkpoint` around it every call says so.
#pragma once

#include <functional>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

/// What checkpoint() returns, twice: as setjmp(3) does.
enum Returned : int {
  kAfterCheckpoint = 1,  // the image is on disk, and the process goes on
  kAfterRestart = 2,     // this is the process of the image
};

/// Has an image of the calling process made by whoever supervises it. The calling thread waits
/// until it is on disk, and the hooks after it have run; others run.
///
/// Threads  any; not from signal handlers, nor from hooks. Allocates nothing. Uses a descriptor,
///          which is closed before the cut.
/// Errors   ENOTCONN: nobody supervises this process; ENOTSUP: refused, `pagetrap run` has said on
///          its standard error which object stands in the way; EIO: another failure, likewise.
PAGETRAP_API Result<int> checkpoint();

/// Whether somebody does.
PAGETRAP_API bool is_supervised() noexcept;

/// Called around every checkpoint of the process, whoever asked for it, in a thread that exists for
/// that. The cut waits for `before_cut`, up to five seconds, and not longer: then it is taken
/// without.
struct ProcessHooks {
  std::function<void()> before_cut{};     // take locks, flush
  std::function<void()> after_cut{};      // the process goes on; the image may not be on disk yet
  std::function<void()> after_restart{};  // reseed random numbers, connect again
};

/// Replaces earlier ones. Starts the thread with the first.
/// Errors  ENOTCONN: nobody supervises this process; EAGAIN: no thread can be started.
PAGETRAP_API Result<Done> set_process_hooks(ProcessHooks hooks);

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
