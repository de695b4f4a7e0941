#include "summary.hpp"

namespace pagetrap::tool {
namespace {

Distribution of_spans(const std::vector<Span>& spans) {
  std::vector<std::uint64_t> lengths;
  lengths.reserve(spans.size());
  for (const Span& span : spans) lengths.push_back(span.length());
  return Distribution(std::move(lengths));
}

Distribution of_stalls(const std::vector<Stall>& stalls) {
  std::vector<std::uint64_t> lengths;
  lengths.reserve(stalls.size());
  for (const Stall& stall : stalls) lengths.push_back(stall.when.length());
  return Distribution(std::move(lengths));
}

std::vector<UtilisationRow> utilisation_of(const HeapTrace& heap, Span watched) {
  std::vector<UtilisationRow> rows;
  for (std::uint64_t power = 100'000; power <= 1'000'000'000; power *= 10)
    for (const std::uint64_t step : {1U, 2U, 5U})
      if (power * step <= 1'000'000'000) rows.push_back({power * step, {}, {}, 0});
  const Pauses flips = pauses_of(heap, watched, std::nullopt);
  for (UtilisationRow& row : rows) row.worst = row.flips = flips.minimum_utilisation(row.window_ns);
  for (const std::uint32_t thread : threads_of(heap)) {
    const Pauses pauses = pauses_of(heap, watched, thread);
    for (UtilisationRow& row : rows) {
      const auto found = pauses.minimum_utilisation(row.window_ns);
      if (!found || *found >= *row.worst) continue;
      row.worst = found;
      row.thread = thread;
    }
  }
  return rows;
}

}  // namespace

Summary::Summary(const HeapTrace& heap, Span watched)
    : flips(of_spans(heap.flips)),
      traps(of_stalls(heap.traps)),
      waits(of_stalls(heap.waits)),
      utilisation(utilisation_of(heap, watched)) {}

}  // namespace pagetrap::tool
