#include "harness/text_files.hpp"

#include <algorithm>
#include <system_error>

namespace pagetrap::bench {

std::vector<std::filesystem::path> text_files() {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  for (const char* const folder : {"/usr/include", "/usr/share/doc"}) {
    std::error_code error;
    for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
         entry.increment(error)) {
      std::error_code ignored;
      if (entry->is_regular_file(ignored) && !entry->is_symlink(ignored) &&
          entry->path().extension() != ".gz" && entry->path().extension() != ".png")
        files.push_back(entry->path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace pagetrap::bench
