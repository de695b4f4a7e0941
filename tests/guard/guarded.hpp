// Programs under `pagetrap run --guard`.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "preload/support.hpp"

namespace pagetrap::guard::test {

using preload::test::Ran;
using preload::test::Words;

/// What the shim wrote as JSON, and how the program ended.
struct Guarded {
  Ran ran;
  std::vector<nlohmann::json> reports;
};

/// `options`: of run, after --guard. The program's own words follow.
Guarded run_guarded(const Words& options, const Words& words, const std::string& input = {},
                    unsigned seconds = 100);

/// The program of cells.cpp.
std::string cells();

}  // namespace pagetrap::guard::test
