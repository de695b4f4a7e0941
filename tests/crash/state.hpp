// What the program that is killed keeps in its arena: pages and a map, whose contents follow from a
// seed and a counter, so that a process that finds an image can tell what has to be in it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory_resource>
#include <vector>

namespace crash {

inline std::uint64_t mix(std::uint64_t a, std::uint64_t b = 0) {  // splitmix64
  std::uint64_t z = (a ^ b * 0xD1342543DE82EF95) + 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

inline constexpr std::size_t kPage = 4096;
inline constexpr unsigned kWritesEachStep = 8;
using Map = std::pmr::map<std::uint64_t, std::uint64_t>;
using Page = std::array<std::uint64_t, kPage / sizeof(std::uint64_t)>;

/// The page that the `write`-th write of `step` goes to.
inline std::uint64_t page_of(std::uint64_t seed, std::uint64_t step, unsigned write,
                             std::uint64_t pages) {
  // Half of them in the front, so that increments leave most pages out.
  const std::uint64_t random = mix(mix(seed, step), write);
  return (random >> 32) % (random % 2 == 0 ? pages : pages / 16 + 1);
}

/// What it has after that step; after step 0 at the beginning.
inline void fill(Page& page, std::uint64_t seed, std::uint64_t step, std::uint64_t number) {
  const std::uint64_t random = mix(mix(seed, step), ~number);
  switch (random % 4) {
    case 0:
      page.fill(0);
      return;
    case 1:  // compresses well
      page.fill(random);
      return;
    case 2:  // like other pages
      for (std::size_t i = 0; i < page.size(); ++i) page[i] = mix(seed + step % 5, i);
      return;
    default:  // does not compress
      for (std::size_t i = 0; i < page.size(); ++i) page[i] = mix(random, i);
  }
}

inline void change_map(Map& map, std::uint64_t seed, std::uint64_t step) {
  const std::uint64_t random = mix(seed, ~step);
  map[random % 2000] = step;
  map.erase((random >> 32) % 2000);
}

struct State {
  State(std::pmr::memory_resource* memory, std::uint64_t seed_of_all, std::uint64_t page_count)
      : seed(seed_of_all),
        pages(page_count),
        content(static_cast<Page*>(memory->allocate(page_count * kPage, kPage))),
        map(memory) {
    for (std::uint64_t i = 0; i < pages; ++i) fill(content[i], seed, 0, i);
  }

  void step() {
    ++counter;
    for (unsigned i = 0; i < kWritesEachStep; ++i) {
      const std::uint64_t page = page_of(seed, counter, i, pages);
      fill(content[page], seed, counter, page);
    }
    change_map(map, seed, counter);
  }

  std::uint64_t seed;
  std::uint64_t pages;
  std::uint64_t counter = 0;
  Page* content;
  Map map;
};

/// Whether `state` is what it has to be after `counter` steps, and the first page that is not.
struct Verdict {
  bool right = true;
  std::uint64_t wrong_pages = 0;
  std::uint64_t first_wrong = 0;
  bool map_right = true;
};
inline Verdict check(const State& state, std::uint64_t counter) {
  std::vector<std::uint64_t> last(state.pages, 0);
  Map map(std::pmr::new_delete_resource());
  for (std::uint64_t step = 1; step <= counter; ++step) {
    for (unsigned i = 0; i < kWritesEachStep; ++i)
      last[page_of(state.seed, step, i, state.pages)] = step;
    change_map(map, state.seed, step);
  }
  Verdict verdict;
  Page expected;
  for (std::uint64_t i = 0; i < state.pages; ++i) {
    fill(expected, state.seed, last[i], i);
    if (std::memcmp(&expected, &state.content[i], kPage) == 0) continue;
    if (verdict.wrong_pages++ == 0) verdict.first_wrong = i;
  }
  verdict.map_right = map == state.map;
  verdict.right = verdict.wrong_pages == 0 && verdict.map_right;
  return verdict;
}

}  // namespace crash
