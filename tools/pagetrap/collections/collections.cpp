// collections: what a trace tells of a collected heap.
#include <string.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <string>

#include "../commands.hpp"
#include "../text/json_writer.hpp"
#include "../text/screen.hpp"
#include "choose.hpp"
#include "print.hpp"
#include "report.hpp"
#include "trace_file.hpp"

namespace pagetrap::tool {
namespace {

constexpr const char* kAllKinds = "fault,flip,pause,close,scan,open,pin,stall,cycle";

int exit_code(const Error& error) {
  return error.number == EBADMSG || error.number == ENODATA ? kFailed
         : error.number == EINVAL                           ? kUsage
                                                            : kUnable;
}

int refuse(const CollectionsRequest& request, const Error& error) {
  const int code = exit_code(error);
  std::fprintf(stderr, "pagetrap: %s: %s\n", shown(request.file).c_str(), describe(error).c_str());
  if (!request.json) return code;
  const char* const symbol = ::strerrorname_np(error.number);
  JsonWriter json;
  json.begin_object()
      .member("schema", "pagetrap-collections/1")
      .member("file", shown(request.file));
  json.member("ok", false).key("error").begin_object().member("operation", error.operation);
  json.member("errno", error.number).member("errno_name", symbol != nullptr ? symbol : "");
  if (error.position >= 0) json.member("position", static_cast<std::uint64_t>(error.position));
  json.member("remedy", error.remedy).end_object().member("exit_code", code).end_object();
  std::printf("%s\n", json.text().c_str());
  return code;
}

void print_facts(const CollectionsRequest& request, const TraceFile& file, Span watched) {
  print_heading(shown(request.file));
  std::string text = "Process " + std::to_string(file.process) + ", " +
                     duration_text(static_cast<double>(watched.length())) + " in " +
                     grouped(static_cast<double>(file.events.size())) + " events.";
  if (file.overwritten != 0)
    text += " " + grouped(static_cast<double>(file.overwritten)) +
            " earlier ones were overwritten: PAGETRAP_TRACE_EVENTS makes the ring larger.";
  if (file.unfinished != 0)
    text += " " + grouped(static_cast<double>(file.unfinished)) +
            " are not complete: their thread was writing them.";
  print_paragraph(text, 2, 2);
}

/// What was not traced, and so is missing in what follows.
void print_missing(const HeapTrace& heap) {
  std::string missing;
  const auto add = [&](bool there, const char* kinds, const char* what) {
    if (there) return;
    missing += (missing.empty() ? "" : "; ") + std::string(what) + " (" + kinds + ")";
  };
  add(!heap.flips.empty(), "pause", "pauses");
  add(!heap.traps.empty(), "fault", "traps");
  add(std::any_of(heap.cycles.begin(), heap.cycles.end(),
                  [](const CollectionCycle& cycle) { return cycle.has_pages(); }),
      "close,scan,open,pin", "pages");
  if (!missing.empty())
    print_paragraph("Not in this trace, or nothing happened: " + missing + ".", 2, 2, Style::faint);
}

void print_heap(const HeapTrace& heap, Span watched) {
  print_heading("Cycles");
  print_cycles(heap, watched);
  const Summary summary(heap, watched);
  print_heading("Pauses");
  print_pauses(summary);
  print_heading("Minimum mutator utilisation");
  print_utilisation(summary);
  print_paragraph(
      "The least share that was left for the program in any window of that length (Cheng and "
      "Blelloch). Flips stop all threads, from the order to stop until the order to go on; the "
      "worst thread has its own traps and waits too. Not in it: other programs, what the kernel "
      "takes to deliver a trap, and waking up.",
      2, 2, Style::faint);
}

void write(const CollectionsRequest& request, const TraceFile& file, const CollectionsTrace& trace,
           const ChosenCycle& chosen) {
  JsonWriter json;
  json.begin_object()
      .member("schema", "pagetrap-collections/1")
      .member("file", shown(request.file));
  json.member("ok", true).member("process", file.process);
  json.member("events", static_cast<std::uint64_t>(file.events.size()));
  json.member("overwritten", file.overwritten).member("unfinished", file.unfinished);
  json.member("watched_ns", trace.watched.length());
  json.key("heaps").begin_array();
  for (const HeapTrace& heap : trace.heaps)
    write_heap(json, heap, trace.watched, chosen.heap == &heap ? chosen.cycle : nullptr);
  json.end_array().member("exit_code", kOk).end_object();
  std::printf("%s\n", json.text().c_str());
}

}  // namespace

int collections(const CollectionsRequest& request) {
  const auto file = read_trace(request.file);
  if (!file) return refuse(request, file.error());
  const CollectionsTrace trace = collections_in(file->events);
  if (trace.heaps.empty()) {
    const std::string remedy =
        std::string("it tells of no collected heap: PAGETRAP_TRACE=") + kAllKinds;
    return refuse(request, {"collections", ENODATA, {}, remedy.c_str()});
  }
  ChosenCycle chosen;
  if (request.map || request.has_cycle) {
    chosen = request.has_cycle ? cycle_numbered(trace, request.cycle) : busiest_cycle(trace);
    if (!has_pages(trace))
      return refuse(request,
                    {"collections", EINVAL, {}, "it has no pages: trace close,scan,open,pin too"});
    if (chosen.cycle == nullptr)
      return refuse(request,
                    {"collections",
                     EINVAL,
                     {},
                     request.has_cycle ? "it has no such cycle" : "none of its cycles has ended"});
  }
  if (request.json) {
    write(request, *file, trace, chosen);
  } else {
    print_facts(request, *file, trace.watched);
    for (const HeapTrace& heap : trace.heaps) {
      if (trace.heaps.size() > 1) {
        char text[48];
        std::snprintf(text, sizeof text, "The heap at 0x%" PRIx64, heap.base);
        print_heading(text);
      }
      print_missing(heap);
      if (chosen.cycle == nullptr) print_heap(heap, trace.watched);
      if (chosen.heap == &heap) {
        std::printf("\n");
        print_replay(*chosen.cycle, request.frames);
      }
    }
  }
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return kOk;
  std::perror("pagetrap: standard output");
  return kUnable;
}

}  // namespace pagetrap::tool
