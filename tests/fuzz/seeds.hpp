// Inputs to begin with: good images of every kind, small.
#pragma once

#include <vector>

#include "input.hpp"

namespace pagetrap::checkpoint::test {

std::vector<FuzzInput> seeds();

}  // namespace pagetrap::checkpoint::test
