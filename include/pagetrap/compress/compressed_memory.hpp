// CompressedMemory: a std::pmr::memory_resource whose memory compresses itself.
//
//   auto pager = pager::Pager::create({.budget_bytes = 256_MiB}).value();
//   auto memory = compress::CompressedMemory::create(*pager, 1_GiB).value();
//   std::pmr::unordered_map<int, std::pmr::string> index(memory->resource());
#pragma once

#include <cstddef>
#include <memory>
#include <memory_resource>

#include <pagetrap/compress/compressed_source.hpp>
#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/pager/region.hpp>

namespace pagetrap {
inline namespace v0 {
namespace compress {

class CompressedResource;  // src/compress/compressed_memory.cpp

struct CompressedMemoryOptions {
  CompressedSourceOptions source;
  pager::RegionOptions region;
};

/// A region, its source, and an allocator on it. Outlives what is allocated from it.
///
/// The allocator has size classes, four to a doubling; freed memory is used again for its own
/// class. Its lists are outside the region: freeing touches no page, and so brings none back.
/// Threads  any.
class PAGETRAP_API CompressedMemory {
 public:
  /// `pager` is borrowed. Errors  of CompressedSource::create and pager::Region::create.
  static Result<std::unique_ptr<CompressedMemory>> create(pager::Pager& pager,
                                                          std::size_t size_bytes,
                                                          CompressedMemoryOptions options = {});
  ~CompressedMemory();
  CompressedMemory(const CompressedMemory&) = delete;
  CompressedMemory& operator=(const CompressedMemory&) = delete;

  /// std::bad_alloc when the region is used up. Alignments up to a page.
  [[nodiscard]] std::pmr::memory_resource* resource() noexcept;
  [[nodiscard]] pager::Region& region() noexcept { return region_; }
  [[nodiscard]] CompressedSource& source() noexcept { return *source_; }
  /// From the front of the region: what has been handed out at some time.
  [[nodiscard]] std::size_t used_bytes() const noexcept;

  /// Everything leaves memory and is compressed by the cold codec; `resident_bytes` of pages stay
  /// at most. Threads that touch pages bring them back. Errors  of pager::Region::evict_all and
  /// PageStore.
  Result<Done> park(std::size_t resident_bytes = 0);
  /// Brings back what there is room for. Errors  of pager::Region::will_need.
  Result<Done> wake();

 private:
  CompressedMemory() = default;
  std::unique_ptr<CompressedSource> source_;
  pager::Region region_;
  std::size_t limit_bytes_ = 0;
  std::unique_ptr<CompressedResource> resource_;
};

}  // namespace compress
}  // namespace v0
}  // namespace pagetrap
