// Real text: the documentation and the headers of this machine.
#pragma once

#include <filesystem>
#include <vector>

namespace pagetrap::bench {

/// Sorted, without those that are compressed, or pictures.
std::vector<std::filesystem::path> text_files();

}  // namespace pagetrap::bench
