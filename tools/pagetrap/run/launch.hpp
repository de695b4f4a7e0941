// What the powers of `pagetrap run` share.
#pragma once

#include <optional>
#include <string>

#include "../commands.hpp"

namespace pagetrap::tool::launch {

/// As "64M". Empty: it makes no sense.
std::optional<std::size_t> parse_size(const std::string& text);
/// A whole number in decimal. Empty: it is none.
std::optional<unsigned> parse_number(const std::string& text);
/// Beside the command, in the build or installed. Empty: nowhere.
std::string find_shim(const char* name);
/// This command's own file. Empty: no /proc.
std::string own_file();

int usage(const std::string& words);
int unable(const std::string& words, const std::string& remedy);
void set(const char* name, const std::string& value);
/// Becomes the program, with the shim in front of it. Returns if it cannot be started.
int become(const RunRequest& request, const std::string& shim);

}  // namespace pagetrap::tool::launch

namespace pagetrap::tool {
int run_memory(const RunRequest& request);
int run_guard(const RunRequest& request);
/// Defined in process/ or, without the room checkpoint, in process/absent.cpp; CMake chooses.
int run_checkpoint(const RunRequest& request);
}  // namespace pagetrap::tool
