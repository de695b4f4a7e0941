// Rebirth: a child of the restarting process becomes the process of an image. Most of it is lists
// of system calls, made from an area at addresses that neither of the two uses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <pagetrap/core/result.hpp>

#include "checkpoint/process/area.hpp"
#include "checkpoint/process/new_files.hpp"
#include "checkpoint/process/ranges.hpp"
#include "checkpoint/process/record.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// Pages of an image's file that are mapped as they are.
struct MappedPages {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::size_t file = 0;  // index in `image_files`
  std::uint64_t offset = 0;
};

/// What both sides know before the child exists: it is made in the parent, and the child has a
/// copy.
struct RebirthPlan {
  const Record* record = nullptr;
  std::uint64_t area_base = 0;
  std::uint64_t area_size = 0;
  std::uint64_t kernel_place = 0;  // for vdso and its data, meanwhile
  Run kernel_pages;                // where they are now
  bool kernel_pages_stay = false;  // at kernel_place: the old vdso leads there
  bool lazy = false;               // pages that are absent are to be asked for
  bool in_namespace = false;       // of ids, made for it
  bool drop_privileges = false;    // of that namespace's user
  std::vector<MappedPages> mapped;
  std::vector<int> image_files;
};

/// What the child writes to kept[0] when it is ready; anything else there is words about a Trouble.
struct ListPlace {
  std::uint64_t magic;
  std::uint64_t list;              // address of its first Call
  std::uint64_t userfaultfd_call;  // index in it, if lazy
};
inline constexpr std::uint64_t kListPlace = 0x6563616c70747369;

/// Holes for the plan's area and kernel pages. Errors  ENOMEM: none is large enough; ENOTSUP: the
/// kernel's own pages are not as they were.
Result<Done> find_places(RebirthPlan& plan);

/// In the child, which is traced: does not return. The breakpoints of its first thread are
/// 1. memory is mapped, and can be filled; 2. all threads are there, each at its own only one.
/// If it cannot, it says why to kept[0], and ends.
[[noreturn]] void become(RebirthPlan& plan, const std::vector<std::vector<std::byte>>& contents,
                         const std::vector<int>& kept);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
