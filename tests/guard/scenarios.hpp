// One mistake each, or its twin without it.
#pragma once

#include <cstddef>
#include <map>
#include <string>

using Scenario = void (*)(bool good);
using Scenarios = std::map<std::string, Scenario>;

/// 0: it came to its end. 2: there is none of that name.
int run_scenario(const std::string& name, bool good);

/// Those in the buffers of system calls.
Scenarios kernel_scenarios();

/// Not inlined, or the compiler leaves out what it can see through.
[[gnu::noinline]] char* make(std::size_t size);
[[gnu::noinline]] void drop(void* block);
