// for_each_task: numbered tasks, done by several threads, with progress and an early end.
#pragma once

#include <cstdint>
#include <functional>

#include <pagetrap/checkpoint/image.hpp>
#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

/// Calls `task` for 0 to count - 1, each once, and about in that order; `task` returns how many
/// bytes it dealt with. The first Error ends the work and is returned. `progress` is called by
/// whichever thread has finished a task, one call at a time, at most about fifty times a second.
/// `threads`  0: one for each processor. The calling thread is one of them.
Result<Done> for_each_task(std::uint64_t count,
                           const std::function<Result<std::uint64_t>(std::uint64_t)>& task,
                           const Progress& progress, std::uint64_t total_bytes, unsigned threads);

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
