#include "checkpoint/image_file.hpp"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace pagetrap::bench {

ScratchDirectory::ScratchDirectory(Report& report) : report_(report), owner_(getpid()) {
  const char* const wanted = std::getenv("TMPDIR");
  path_ = std::string(wanted != nullptr ? wanted : "/var/tmp") + "/pagetrap-bench-XXXXXX";
  if (mkdtemp(path_.data()) == nullptr) report.skip("cannot make a directory " + path_);
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  if (getpid() == owner_) std::filesystem::remove_all(path_, ignored);
}

void ScratchDirectory::require(double bytes) const {
  std::error_code error;
  const auto space = std::filesystem::space(path_, error);
  if (error || static_cast<double>(space.available) < bytes) {
    std::filesystem::remove_all(path_, error);
    report_.skip("not enough room in " + path_ + "; TMPDIR names another place");
  }
}

}  // namespace pagetrap::bench
