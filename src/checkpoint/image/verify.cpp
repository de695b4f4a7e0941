// inspect(), inspect_chain() and verify().
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <vector>

#include <pagetrap/checkpoint/image.hpp>

#include "checkpoint/image/chain.hpp"
#include "checkpoint/image/crew.hpp"
#include "checkpoint/image/pool.hpp"
#include "checkpoint/image/stored_image.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

namespace {

struct Buffers {
  std::vector<std::byte> pages;
  std::vector<std::byte> scratch;
};

}  // namespace

Result<ImageInfo> inspect(const std::string& path) try {
  auto image = StoredImage::open(AT_FDCWD, path.c_str());
  if (!image) return image.error();
  return (*image)->info();
} catch (const std::bad_alloc&) {
  return Error{"inspect", ENOMEM};
}

Result<std::vector<ChainMember>> inspect_chain(const std::string& path) try {
  const auto chain = Chain::open(path);
  if (!chain) return chain.error();
  std::vector<ChainMember> members;
  for (std::uint32_t i = 0; i < (*chain)->images(); ++i) {
    members.push_back({(*chain)->image_path(i), (*chain)->image_info(i)});
  }
  return members;
} catch (const std::bad_alloc&) {
  return Error{"inspect_chain", ENOMEM};
}

Result<ImageInfo> verify(const std::string& path, const Progress& progress) try {
  const auto opened = Chain::open(path);
  if (!opened) return opened.error();
  const Chain& chain = **opened;

  // Every block, also those that nothing needs any more.
  std::vector<std::uint64_t> first_task;  // of each image
  std::uint64_t tasks = 0;
  std::uint64_t total_bytes = 0;
  for (std::uint32_t i = 0; i < chain.images(); ++i) {
    first_task.push_back(tasks);
    tasks += chain.image_info(i).blocks;
    total_bytes += chain.image_info(i).stored_bytes;
  }
  Pool<Buffers> pool;
  const auto check = [&](std::uint64_t task) -> Result<std::uint64_t> {
    const auto image = static_cast<std::uint32_t>(
        std::upper_bound(first_task.begin(), first_task.end(), task) - first_task.begin() - 1);
    const auto buffers = pool.take();
    return chain.check_block(image, static_cast<std::uint32_t>(task - first_task[image]),
                             buffers->pages, buffers->scratch);
  };
  if (auto done = for_each_task(tasks, check, progress, total_bytes, 0); !done) {
    return done.error();
  }
  return chain.info();
} catch (const std::bad_alloc&) {
  return Error{"verify", ENOMEM};
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
