// Pages that are put into a process before it begins.
#include <algorithm>
#include <vector>

#include <pagetrap/core/units.hpp>

#include "checkpoint/image/crew.hpp"
#include "checkpoint/process/supply.hpp"
#include "checkpoint/process/tracee.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

constexpr std::uint64_t kLeastMapped = 64 * 1024;  // below, a mapping costs more than copying
constexpr std::size_t kMostMappings = 20'000;      // of 65,530 that a process may have

Runs runs_of(const std::vector<StoredPages>& pages) {
  Runs runs;
  runs.reserve(pages.size());
  for (const StoredPages& each : pages) runs.push_back({each.start, each.end});
  return tidy(std::move(runs));
}

// The runs that `run` has part in. Both are sorted.
Runs within(const Runs& runs, const Run& run) {
  const auto first =
      std::lower_bound(runs.begin(), runs.end(), run.start,
                       [](const Run& each, std::uint64_t start) { return each.end <= start; });
  Runs parts;
  for (auto each = first; each != runs.end() && each->start < run.end; ++each)
    parts.push_back({std::max(each->start, run.start), std::min(each->end, run.end)});
  return parts;
}

}  // namespace

Runs plain_runs(const Record& record) {
  Runs runs;
  for (const Mapping& mapping : record.mappings)
    if (mapping.kind == MappingKind::anonymous || mapping.kind == MappingKind::stack ||
        mapping.kind == MappingKind::file_contents)
      runs.push_back({mapping.start, mapping.end});
  return tidy(std::move(runs));
}

Runs own_runs(const Record& record) {
  Runs runs;
  for (const Mapping& mapping : record.mappings)
    if (mapping.kind == MappingKind::file)
      runs.insert(runs.end(), mapping.own.begin(), mapping.own.end());
  return tidy(std::move(runs));
}

bool is_mappable(const StoredProcess& stored) {
  const auto blocks = stored.chain().blocks();
  return std::all_of(blocks.begin(), blocks.end(), [&](const ChainBlock& block) {
    return stored.chain().mappable_offset(block) >= 0;
  });
}

std::vector<MappedPages> mappable_pages(const StoredProcess& stored) {
  Runs room;  // a mapping that grows down cannot be a file's
  for (const Mapping& mapping : stored.record().mappings)
    if (mapping.kind == MappingKind::anonymous || mapping.kind == MappingKind::file_contents)
      room.push_back({mapping.start, mapping.end});
  room = tidy(std::move(room));
  std::vector<MappedPages> mapped;
  for (const StoredPages& pages : stored.pages()) {
    const ChainBlock& block = stored.chain().blocks()[pages.block];
    const std::int64_t offset = stored.chain().mappable_offset(block);
    if (offset < 0) continue;
    const std::uint64_t at =
        static_cast<std::uint64_t>(offset) + (std::uint64_t{pages.page_in_block} << page_shift());
    for (const Run& run : within(room, {pages.start, pages.end})) {
      const std::uint64_t from = at + (run.start - pages.start);
      if (!mapped.empty() && mapped.back().end == run.start && mapped.back().file == block.image &&
          mapped.back().offset + (mapped.back().end - mapped.back().start) == from) {
        mapped.back().end = run.end;
      } else {
        mapped.push_back({run.start, run.end, block.image, from});
      }
    }
  }
  std::erase_if(mapped,
                [](const MappedPages& each) { return each.end - each.start < kLeastMapped; });
  if (mapped.size() > kMostMappings) {
    // The longest ones.
    std::nth_element(mapped.begin(), mapped.begin() + kMostMappings, mapped.end(),
                     [](const MappedPages& a, const MappedPages& b) {
                       return a.end - a.start > b.end - b.start;
                     });
    mapped.resize(kMostMappings);
    std::sort(mapped.begin(), mapped.end(),
              [](const MappedPages& a, const MappedPages& b) { return a.start < b.start; });
  }
  return mapped;
}

Result<Done> fill(const StoredProcess& stored, pid_t process, const Runs& plain, const Runs& own,
                  unsigned threads) {
  const Chain& chain = stored.chain();
  std::vector<std::vector<const StoredPages*>> of_block(chain.blocks().size());
  for (const StoredPages& pages : stored.pages())
    if (!within(plain, {pages.start, pages.end}).empty() ||
        !within(own, {pages.start, pages.end}).empty())
      of_block[pages.block].push_back(&pages);
  const auto one = [&](std::uint64_t number) -> Result<std::uint64_t> {
    if (of_block[number].empty()) return std::uint64_t{0};
    thread_local std::vector<std::byte> bytes;
    thread_local std::vector<std::byte> scratch;
    const ChainBlock& block = chain.blocks()[number];
    bytes.resize(std::size_t{block.pages} << page_shift());
    if (auto loaded = chain.load(block, bytes, scratch); !loaded) return loaded.error();
    for (const StoredPages* const pages : of_block[number]) {
      const std::size_t at = std::size_t{pages->page_in_block} << page_shift();
      for (const Run& run : within(plain, {pages->start, pages->end})) {
        auto put = write_memory(
            process, run.start,
            std::span(bytes).subspan(at + (run.start - pages->start), run.end - run.start));
        if (!put) return put.error();
      }
      for (const Run& run : within(own, {pages->start, pages->end})) {
        auto put = force_memory(
            process, run.start,
            std::span(bytes).subspan(at + (run.start - pages->start), run.end - run.start));
        if (!put) return put.error();
      }
    }
    return bytes.size();
  };
  if (auto done = for_each_task(chain.blocks().size(), one, {}, 0, threads); !done) return done;
  for (const Run& run : subtract(own, runs_of(stored.pages()))) {
    const std::vector<std::byte> zeroes(run.end - run.start);
    if (auto put = force_memory(process, run.start, zeroes); !put) return put;
  }
  return Done{};
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
