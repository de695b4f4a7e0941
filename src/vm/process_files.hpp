// Descriptors of this process's own memory, opened once and reopened in a fork()ed child (an
// inherited one means the parent's memory).
#pragma once

#include <pagetrap/core/config.hpp>

#include "vm/backends/operations.hpp"

namespace pagetrap {
inline namespace v0 {

/// Open what a region will need later. Not signal-safe. Missing /proc is not an error yet.
void open_process_files() noexcept;

/// /proc/self/mem and /proc/self/pagemap; -1 if not there. Signal-safe after open_process_files().
int memory_descriptor() noexcept PAGETRAP_SIGNAL_SAFE;
int pagemap_descriptor() noexcept PAGETRAP_SIGNAL_SAFE;
/// A pidfd of this process; -1 if the kernel gives none.
int self_descriptor() noexcept PAGETRAP_SIGNAL_SAFE;

void reopen_process_files_in_child() noexcept;

}  // namespace v0
}  // namespace pagetrap
