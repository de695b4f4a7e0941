// Checkpointer::restore.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "checkpoint/checkpointer.hpp"
#include "checkpoint/generations.hpp"
#include "checkpoint/image/chain.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

Result<ImageInfo> CheckpointerState::restore(const std::string& path, RestoreMode mode) {
  if (lazy != nullptr)
    return Error{"restore", EBUSY, {}, "an earlier restore is not finished: finish_restore()"};
  struct stat what {};
  if (::stat(path.c_str(), &what) != 0) return Error{"open a checkpoint", errno};
  if (!S_ISDIR(what.st_mode)) return restore_file(path, mode);
  const auto all = generations(path, "");
  if (!all) return all.error();
  Error newest{"restore", ENOENT, {}, "there is no checkpoint in this directory"};
  bool first = true;
  for (const Generation& each : *all) {
    // Checked before any memory is touched, but for lazy, whose point that is.
    if (mode != RestoreMode::lazy) {
      if (const auto good = verify(each.path); !good) {
        if (first) newest = good.error();
        first = false;
        continue;
      }
    }
    auto restored = restore_file(each.path, mode);
    if (restored) return restored;
    if (first) newest = restored.error();
    first = false;
  }
  return newest;
}

// Whatever is in it is gone. Of an arena, what it has used: it may be reserved much larger.
Result<Done> CheckpointerState::empty(Territory& territory) {
  territory.forget_images();
  Region& emptied = territory.region();
  std::size_t length = emptied.size_bytes();
  // Pages come some at a time, so there may be more than it has used.
  constexpr std::size_t kGrain = std::size_t{2} << 20;
  for (ArenaState* const arena : arena_of)
    if (arena != nullptr && &arena->territory == &territory)
      length = std::min(length, (arena->used() + kGrain - 1) & ~(kGrain - 1));
  return emptied.discard({emptied.data(), pages_for(length)});
}

Result<ImageInfo> CheckpointerState::restore_file(const std::string& path, RestoreMode mode) {
  if (mode == RestoreMode::mapped) {
    if (const auto good = verify(path); !good) return good.error();
  }
  auto opened = Chain::open(path);
  if (!opened) return opened.error();
  std::unique_ptr<Chain> chain = std::move(*opened);
  const ImageInfo info = chain->info();
  if (info.page_size != page_size())
    return Error{"restore", ENOTSUP, {}, "the image is from a machine with other pages"};

  // Everything has a place, before anything is put there.
  std::vector<Territory*> places;
  std::vector<Territory*> to_empty;
  for (const ImageRegion& wanted : info.regions) {
    const auto known = std::find_if(territories.begin(), territories.end(),
                                    [&](const auto& each) { return each->name() == wanted.name; });
    if (known == territories.end()) {
      const auto made = make_arena(wanted.name, wanted.size_bytes, wanted.base);
      if (!made) return made.error();
      places.push_back(territories.back().get());
      continue;  // it is empty
    }
    const PageRange there = (*known)->region().range();
    const bool is_arena =
        arena_of[static_cast<std::size_t>(known - territories.begin())] != nullptr;
    if (reinterpret_cast<std::uintptr_t>(there.base) != wanted.base)
      return Error{"restore", EEXIST, there, "the image has this region at another address"};
    if (there.size_bytes() < wanted.size_bytes ||
        (!is_arena && there.size_bytes() != wanted.size_bytes))
      return Error{"restore", EINVAL, there, "the image has this region in another size"};
    places.push_back(known->get());
    to_empty.push_back(known->get());
  }
  for (Territory* const place : to_empty)
    if (const auto emptied = empty(*place); !emptied) return emptied.error();
  const unsigned threads =
      options.threads != 0 ? options.threads : std::max(1U, std::thread::hardware_concurrency());
  // Memory whose absent pages read as zeroes, without a fault, has to be there before it is seen.
  const bool all_fault = std::all_of(places.begin(), places.end(), [](Territory* place) {
    return place->cut() == Cut::lift && place->region().can().faults.has(FaultKind::missing);
  });
  if (mode == RestoreMode::eager || !all_fault) {
    if (const auto loaded = load_all(*chain, places, threads); !loaded) return loaded.error();
  } else {
    auto started = LazyLoad::start(std::move(chain), places, threads);
    if (!started) return started.error();
    const auto no_fork = fork_waits();
    lazy = std::move(*started);
  }
  for (std::size_t i = 0; i < arena_of.size(); ++i) {
    const bool restored =
        std::find(places.begin(), places.end(), territories[i].get()) != places.end();
    if (arena_of[i] == nullptr || !restored) continue;
    if (arena_of[i]->header().magic != ArenaHeader::kMagic)
      return Error{"restore", EBADMSG, territories[i]->region().range(),
                   "the image's region is no arena: add_region() it"};
    arena_of[i]->adopt();
  }
  // The next image is a full one; its numbers go on.
  last = {};
  generation = info.generation;
  if (hooks.after_restore) hooks.after_restore();
  return info;
}

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
