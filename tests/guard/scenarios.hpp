// One mistake each, or its twin without it.
#pragma once

#include <string>

/// 0: it came to its end. 2: there is none of that name.
int run_scenario(const std::string& name, bool good);
