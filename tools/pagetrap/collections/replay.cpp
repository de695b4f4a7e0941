#include "replay.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <pagetrap/core/result.hpp>

namespace pagetrap::tool {
namespace {

using What = PageEvent::What;

std::vector<PageRun> runs_in(const std::vector<PageEvent>& events) {
  std::vector<PageRun> all;
  for (const PageEvent& event : events)
    if (event.what != What::visited && event.count != 0) all.push_back({event.first, event.count});
  std::sort(all.begin(), all.end(),
            [](const PageRun& a, const PageRun& b) { return a.first < b.first; });
  std::vector<PageRun> runs;
  for (const PageRun& run : all) {
    if (!runs.empty() && run.first <= runs.back().first + runs.back().count) {
      runs.back().count = std::max(runs.back().count, run.first + run.count - runs.back().first);
    } else {
      runs.push_back(run);
    }
  }
  return runs;
}

char letter_for(const std::array<std::size_t, kPageStates>& counts) {
  const auto count = [&](PageState state) { return counts[static_cast<std::size_t>(state)]; };
  if (count(PageState::pinned) != 0) return 'P';
  char letter = ' ';
  std::size_t most = 0;
  for (const auto& [state, its] : {std::pair{PageState::unscanned, '#'},
                                   {PageState::opening, 'o'},
                                   {PageState::open, '.'},
                                   {PageState::trapped, '!'}}) {
    if (count(state) <= most) continue;
    most = count(state);
    letter = its;
  }
  return letter;
}

bool opens(What what) {
  return what == What::opened || what == What::trapped || what == What::clean;
}

PageState after(PageState before, What what) {
  if (before == PageState::pinned) return before;
  switch (what) {
    case What::closed:
    case What::made:
      return PageState::unscanned;
    case What::scan:
      return PageState::opening;
    case What::opened:
    case What::clean:
      return before == PageState::trapped ? before : PageState::open;
    case What::trapped:
      return PageState::trapped;
    case What::pinned:
      return PageState::pinned;
    case What::visited:
      break;
  }
  return before;
}

}  // namespace

const char* name(PageState state) noexcept {
  constexpr std::array<const char*, kPageStates> kNames{"untouched", "unscanned", "opening",
                                                        "open",      "trapped",   "pinned"};
  return kNames[static_cast<std::size_t>(state)];
}

Replay::Replay(const CollectionCycle& cycle) : cycle_(cycle), runs_(runs_in(cycle.events)) {
  std::size_t pages = 0;
  for (const PageRun& run : runs_) {
    places_.push_back(pages);
    pages += run.count;
  }
  constexpr std::size_t kMost = std::size_t{1} << 28;
  if (pages > kMost)
    throw SystemError(
        {"replay", EBADMSG, {}, "a cycle of more than 1 TiB of pages: the trace is damaged"});
  states_.resize(pages, PageState::untouched);
}

std::size_t Replay::place_of(std::uint64_t page) const {
  const auto after_it =
      std::upper_bound(runs_.begin(), runs_.end(), page,
                       [](std::uint64_t p, const PageRun& run) { return p < run.first; });
  const auto index = static_cast<std::size_t>(after_it - runs_.begin()) - 1;
  return places_[index] + (page - runs_[index].first);
}

void Replay::apply(const PageEvent& event) {
  if (event.what == What::visited || event.count == 0) return;
  const std::size_t first = place_of(event.first);
  for (std::size_t i = first; i < first + event.count; ++i)
    states_[i] = after(states_[i], event.what);
}

void Replay::advance(std::uint64_t nanoseconds) {
  for (; next_ < cycle_.events.size() && cycle_.events[next_].nanoseconds <= nanoseconds; ++next_)
    apply(cycle_.events[next_]);
}

std::array<std::size_t, kPageStates> Replay::counts() const {
  std::array<std::size_t, kPageStates> counts{};
  for (const PageState state : states_) ++counts[static_cast<std::size_t>(state)];
  return counts;
}

std::size_t pages_per_cell(std::size_t pages, std::size_t cells) {
  return std::max<std::size_t>(1, (pages + cells - 1) / cells);
}

std::string draw(const std::vector<PageState>& states, std::size_t cells) {
  const std::size_t each = pages_per_cell(states.size(), cells);
  std::string text;
  for (std::size_t begin = 0; begin < states.size(); begin += each) {
    std::array<std::size_t, kPageStates> counts{};
    const std::size_t end = std::min(states.size(), begin + each);
    for (std::size_t i = begin; i < end; ++i) ++counts[static_cast<std::size_t>(states[i])];
    text += letter_for(counts);
  }
  return text;
}

std::vector<std::uint64_t> instants(const CollectionCycle& cycle, std::size_t count) {
  const std::uint64_t begin = std::max(cycle.flipped_at, cycle.resumed_at);
  const std::uint64_t end = std::max(begin, cycle.last_time());
  const auto counts = [&](const PageEvent& event) {
    return opens(event.what) && event.nanoseconds > begin && event.nanoseconds < end;
  };
  std::uint64_t all = 0;
  for (const PageEvent& event : cycle.events)
    if (counts(event)) all += event.count;
  std::vector<std::uint64_t> chosen{begin};
  std::uint64_t opened = 0;
  std::size_t next = 1;
  for (const PageEvent& event : cycle.events) {
    if (!counts(event)) continue;
    opened += event.count;
    // Of a run that crosses several marks one frame is made.
    bool passed = false;
    for (; next + 1 < count && opened * (count - 1) >= all * next; ++next) passed = true;
    if (passed && event.nanoseconds > chosen.back()) chosen.push_back(event.nanoseconds);
  }
  if (end > chosen.back()) chosen.push_back(end);
  return chosen;
}

}  // namespace pagetrap::tool
