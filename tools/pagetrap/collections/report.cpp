#include "report.hpp"

#include <array>
#include <cinttypes>
#include <cstdio>
#include <limits>
#include <string>

#include "replay.hpp"

namespace pagetrap::tool {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();  // null

double microseconds(std::uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e3; }

void write_cycle(JsonWriter& json, const CollectionCycle& cycle, Span watched) {
  const bool paused = cycle.resumed_at != 0;
  const bool ended = cycle.ended_at != 0;
  const auto at_end = [&](std::uint64_t count) {
    return ended ? static_cast<double>(count) : kNothing;
  };
  json.begin_object().member("number", static_cast<std::uint64_t>(cycle.number));
  json.member("full", cycle.full).member("lifted", cycle.lifted);
  json.member("at_ns", cycle.flipped_at - watched.begin);
  json.member("stop_us", paused ? microseconds(cycle.stop_ns) : kNothing);
  json.member("pause_us", paused ? microseconds(cycle.pause_ns) : kNothing);
  json.member("total_us", ended ? microseconds(cycle.total_ns()) : kNothing);
  json.member("traps", at_end(cycle.traps));
  json.member("scanned_pages", at_end(cycle.scanned_pages));
  json.member("copied_pages", at_end(cycle.copied_pages));
  json.member("page_events", static_cast<std::uint64_t>(cycle.events.size()));
  json.end_object();
}

void write_distribution(JsonWriter& json, const char* name, const Distribution& durations) {
  json.key(name).begin_object();
  json.member("count", static_cast<std::uint64_t>(durations.count()));
  if (durations.count() != 0) {
    for (const auto& [member, percent] :
         {std::pair{"p50_us", 50.0}, {"p90_us", 90.0}, {"p99_us", 99.0}, {"p99_9_us", 99.9}})
      json.member(member, microseconds(durations.percentile(percent)));
    json.member("longest_us", microseconds(durations.longest()));
  }
  json.member("total_us", microseconds(durations.total()));
  const std::array<const Distribution*, 1> self{&durations};
  const auto bounds = bin_bounds(self);
  json.key("histogram").begin_array();
  for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
    json.begin_object().member("from_us", microseconds(bounds[i]));
    json.member("to_us", microseconds(bounds[i + 1]));
    json.member("count", static_cast<std::uint64_t>(durations.between(bounds[i], bounds[i + 1])));
    json.end_object();
  }
  json.end_array().end_object();
}

void write_utilisation(JsonWriter& json, const Summary& summary) {
  json.key("utilisation").begin_array();
  for (const UtilisationRow& row : summary.utilisation) {
    if (!row.worst) continue;
    json.begin_object().member("window_us", microseconds(row.window_ns));
    json.member("flips", *row.flips).member("worst", *row.worst);
    if (row.thread != 0) json.member("thread", static_cast<std::uint64_t>(row.thread));
    json.end_object();
  }
  json.end_array();
}

/// A line each: a cycle may have a hundred thousand.
void write_replay(JsonWriter& json, const CollectionCycle& cycle) {
  const Replay replay(cycle);
  json.key("replay").begin_object().member("number", static_cast<std::uint64_t>(cycle.number));
  json.key("runs").begin_array();
  for (const PageRun& run : replay.runs()) {
    json.value(std::to_string(run.first) + " " + std::to_string(run.count));
  }
  json.end_array().key("events").begin_array();
  for (const PageEvent& event : cycle.events) {
    const double since =
        static_cast<double>(event.nanoseconds) - static_cast<double>(cycle.flipped_at);
    char text[96];
    std::snprintf(text, sizeof text, "%.3f %s %" PRIu64 " %" PRIu64 " %" PRIu32, since / 1e3,
                  name(event.what), event.first, event.count, event.thread);
    json.value(text);
  }
  json.end_array().end_object();
}

}  // namespace

void write_heap(JsonWriter& json, const HeapTrace& heap, Span watched,
                const CollectionCycle* replay) {
  const Summary summary(heap, watched);
  json.begin_object().member("base", heap.base).member("pages", heap.pages);
  json.key("cycles").begin_array();
  for (const CollectionCycle& cycle : heap.cycles) write_cycle(json, cycle, watched);
  json.end_array();
  write_distribution(json, "flips", summary.flips);
  write_distribution(json, "traps", summary.traps);
  write_distribution(json, "waits", summary.waits);
  write_utilisation(json, summary);
  if (replay != nullptr) write_replay(json, *replay);
  json.end_object();
}

}  // namespace pagetrap::tool
