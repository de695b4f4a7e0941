#include "options.hpp"

#include <filesystem>

#include "../run/launch.hpp"
#include "supervise.hpp"

namespace pagetrap::tool::process {

std::string saver_options(const CheckpointRequest& request,
                          std::optional<checkpoint::ProcessSaverOptions>& options) {
  checkpoint::ProcessSaverOptions made;
  // The program may go elsewhere, this process does not; but images say where they are.
  made.directory = std::filesystem::absolute(request.directory).string();
  if (!request.every.empty()) {
    const auto every = parse_time(request.every);
    if (!every || every->count() == 0)
      return "--every " + request.every + " is no time; such are 60s, 10m";
    made.every = *every;
  }
  if (!request.keep.empty()) {
    const auto keep = launch::parse_number(request.keep);
    if (!keep || *keep == 0) return "--keep must be a number of 1 or more";
    made.keep = *keep;
  }
  if (!request.full_every.empty()) {
    const auto full_every = launch::parse_number(request.full_every);
    if (!full_every || *full_every == 0) return "--full-every must be a number of 1 or more";
    made.full_every = *full_every;
  }
  if (request.compression == "lz4") made.compression = checkpoint::Compression::lz4;
  if (request.compression == "zstd") made.compression = checkpoint::Compression::zstd;
  options = made;
  return {};
}

}  // namespace pagetrap::tool::process
