// How a process is to be saved, from the command line.
#pragma once

#include <optional>
#include <string>

#include <pagetrap/checkpoint/process.hpp>

#include "../commands.hpp"

namespace pagetrap::tool::process {

/// Returns what is wrong with the request; empty: nothing.
std::string saver_options(const CheckpointRequest& request,
                          std::optional<checkpoint::ProcessSaverOptions>& options);

}  // namespace pagetrap::tool::process
