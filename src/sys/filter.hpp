// Another program, run from inside a signal handler: a filter for a few kilobytes of text.
#pragma once

#include <cstddef>
#include <string_view>

#include <pagetrap/core/config.hpp>

namespace pagetrap::sys {

/// Gives `words` (null-terminated, words[0] a path) `input` on its standard input, and puts what it
/// writes into `output`; `got` bytes of it. Its environment is the process's, without LD_PRELOAD.
/// Both texts must fit into a pipe (64 KiB). Waits `milliseconds`, and kills it then.
/// Returns 0 or an errno value. Allocates nothing: vfork(2) and execve(2).
/// Threads  one at a time, for both functions.
PAGETRAP_API int filter(const char* const* words, std::string_view input, char* output,
                        std::size_t room, std::size_t& got, int milliseconds) noexcept;

/// Runs `command` by the shell with our own standard streams, and waits for it.
PAGETRAP_API int run_shell(const char* command) noexcept;

/// Ends the process without running anything of it.
[[noreturn]] PAGETRAP_API void end_process(int status) noexcept;

}  // namespace pagetrap::sys
