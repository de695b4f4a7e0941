// Generations: the images of one program in a directory, NAME.000001.ckpt and so on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

struct Generation {
  std::uint64_t number = 0;
  std::string path;
};

std::string generation_path(const std::string& directory, const std::string& name,
                            std::uint64_t number);

/// The images called NAME (empty: any) in `directory`, newest first.
Result<std::vector<Generation>> generations(const std::string& directory, const std::string& name);

/// Removes images that none of the newest `keep` that are whole needs.
Result<Done> prune(const std::string& directory, const std::string& name, unsigned keep);

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
