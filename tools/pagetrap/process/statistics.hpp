// What a checkpoint did, as JSON.
#pragma once

#include <string>

#include <pagetrap/checkpoint/process.hpp>

namespace pagetrap::tool::process {

/// One line, schema pagetrap-checkpoint/1. Names are CRIU's where it has some.
std::string json_of(const checkpoint::ProcessStatistics& statistics);

}  // namespace pagetrap::tool::process
