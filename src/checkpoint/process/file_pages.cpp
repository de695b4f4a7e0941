#include "checkpoint/process/file_pages.hpp"

#include <random>
#include <vector>

#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

Result<Done> FilePages::compare(const Runs& files, bool full, MemoryCut& memory) {
  // Nobody can make two pages that have one hash without knowing it.
  static const std::uint64_t seed = std::random_device()() | std::uint64_t{1} << 32;
  std::unordered_map<std::uint64_t, ContentHash> now;
  Runs same;
  std::vector<std::byte> bytes;
  for (const Run& run : intersect(memory.wanted, files)) {
    bytes.resize(run.end - run.start);
    if (auto read = memory.read(run.start, bytes); !read) return read;
    for (std::uint64_t at = run.start; at < run.end; at += page_size()) {
      const ContentHash hash =
          content_hash(std::span(bytes).subspan(at - run.start, page_size()), seed);
      now.emplace(at, hash);
      const auto before = known_.find(at);
      if (!full && before != known_.end() && before->second == hash)
        same.push_back({at, at + page_size()});
    }
  }
  // Only what was a file's page in every image since: another mapping may have been there
  // meanwhile.
  known_ = std::move(now);
  memory.wanted = subtract(memory.wanted, tidy(std::move(same)));
  return Done{};
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
