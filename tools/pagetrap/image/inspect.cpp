// image inspect and image verify: what an image has, and whether all of it is there.
#include <algorithm>
#include <cinttypes>
#include <cstdio>

#include <pagetrap/checkpoint/process.hpp>

#include "../text/screen.hpp"
#include "report.hpp"

namespace pagetrap::tool {

namespace {

using checkpoint::ChainMember;
using checkpoint::ImageInfo;

std::string hexadecimal(std::uint64_t number) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%" PRIx64, number);
  return text;
}

std::string bytes_text(std::uint64_t bytes) { return size_text(static_cast<double>(bytes)); }

bool is_process(const ImageInfo& info) {
  return std::any_of(
      info.regions.begin(), info.regions.end(),
      [](const checkpoint::ImageRegion& region) { return region.name == "process"; });
}

void print_facts(const ImageInfo& info) {
  const std::uint64_t page_bytes = info.pages * info.page_size;
  char ratio[64] = "";
  if (info.stored_bytes != 0) {
    std::snprintf(ratio, sizeof ratio, ", %.2f times smaller than its pages",
                  static_cast<double>(page_bytes) / static_cast<double>(info.stored_bytes));
  }
  Table table({Align::left, Align::left});
  table.add({"  id", checkpoint::text(info.id)});
  table.add({"  kind", info.incremental() ? "changes since " + checkpoint::text(info.parent)
                                          : std::string("full image")});
  table.add(
      {"  taken", time_text(info.created_ns) + ", generation " + std::to_string(info.generation)});
  std::string pages = std::to_string(info.pages) + " of " + std::to_string(info.page_size) +
                      " bytes (" + bytes_text(page_bytes) + ")";
  // The region of a process is all that it could address.
  if (!is_process(info)) pages += ", and " + std::to_string(info.zero_pages) + " that are zero";
  table.add({"  pages", pages});
  table.add({"  stored", bytes_text(info.stored_bytes) + " in " + std::to_string(info.blocks) +
                             " blocks, compression " + checkpoint::name(info.compression) + ratio});
  table.print();
}

void print_regions(const ImageInfo& info) {
  Table table({Align::left, Align::right, Align::right, Align::right});
  table.add({{"  region", Style::faint},
             {"size", Style::faint},
             {"address", Style::faint},
             {"root", Style::faint}});
  for (const checkpoint::ImageRegion& region : info.regions) {
    table.add({"  " + printable(region.name), bytes_text(region.size_bytes),
               hexadecimal(region.base), region.root == 0 ? "-" : hexadecimal(region.root)});
  }
  table.print();
}

void print_process(const checkpoint::ProcessInfo& process) {
  Table facts({Align::left, Align::left});
  facts.add({"  process", std::to_string(process.id) + ", " + printable(process.command)});
  facts.add({"  of", "Linux " + printable(process.kernel)});
  for (std::size_t i = 0; i < process.threads.size(); ++i)
    facts.add({i == 0 ? "  threads" : "", printable(process.threads[i])});
  for (std::size_t i = 0; i < process.files.size(); ++i)
    facts.add({i == 0 ? "  files" : "", printable(process.files[i])});
  if (process.timers != 0) facts.add({"  timers", std::to_string(process.timers)});
  facts.print();
  Table memory({Align::left, Align::right, Align::left, Align::left});
  memory.add({{"  memory", Style::faint},
              {"size", Style::faint},
              {"protection", Style::faint},
              {"what", Style::faint}});
  for (const auto& each : process.memory)
    memory.add({"  " + hexadecimal(each.start), bytes_text(each.end - each.start), each.protection,
                printable(each.what)});
  memory.print();
}

void write_process(JsonWriter& json, const checkpoint::ProcessInfo& process) {
  json.key("process").begin_object().member("command", printable(process.command));
  json.member("id", std::uint64_t(process.id)).member("kernel", printable(process.kernel));
  json.key("threads").begin_array();
  for (const std::string& thread : process.threads) json.value(printable(thread));
  json.end_array().key("files").begin_array();
  for (const std::string& file : process.files) json.value(printable(file));
  json.end_array().key("memory").begin_array();
  for (const auto& each : process.memory)
    json.begin_object()
        .member("start", each.start)
        .member("end", each.end)
        .member("protection", each.protection)
        .member("what", printable(each.what))
        .end_object();
  json.end_array().member("timers", process.timers).end_object();
}

void print_chain(const std::vector<ChainMember>& chain) {
  Table table({Align::left, Align::right, Align::right, Align::left});
  table.add({{"  parent", Style::faint},
             {"generation", Style::faint},
             {"pages", Style::faint},
             {"taken", Style::faint}});
  for (std::size_t i = 1; i < chain.size(); ++i) {
    table.add({"  " + printable(chain[i].path), std::to_string(chain[i].info.generation),
               std::to_string(chain[i].info.pages), time_text(chain[i].info.created_ns)});
  }
  table.print();
}

void write_chain(JsonWriter& json, const std::vector<ChainMember>& chain) {
  json.key("chain").begin_array();
  for (const ChainMember& member : chain) {
    json.begin_object().member("file", printable(member.path));
    json.member("id", checkpoint::text(member.info.id));
    json.member("generation", member.info.generation).member("pages", member.info.pages);
    json.member("file_bytes", member.info.file_bytes).end_object();
  }
  json.end_array();
}

void inspect_one(ImageReport& report, const std::string& file) {
  report.begin(file);
  const auto info = checkpoint::inspect(file);
  if (!info) return report.end(info.error(), file);
  report.describe_image(*info);
  if (!report.json()) {
    print_heading(printable(file));
    print_facts(*info);
  }
  if (is_process(*info)) {
    const auto process = checkpoint::inspect_process(file);
    if (!process) return report.end(process.error(), file);
    write_process(report.writer(), *process);
    if (!report.json()) print_process(*process);
  } else if (!report.json()) {
    print_regions(*info);
  }
  if (!info->incremental()) return report.end();
  const auto chain = checkpoint::inspect_chain(file);
  if (!chain) return report.end(chain.error(), file + " and its parents");
  write_chain(report.writer(), *chain);
  if (!report.json()) print_chain(*chain);
  report.end();
}

}  // namespace

int image_inspect(const ImageRequest& request) {
  ImageReport report("inspect", request.json);
  for (const std::string& file : request.files) inspect_one(report, file);
  return report.finish();
}

int image_verify(const ImageRequest& request) {
  ImageReport report("verify", request.json);
  for (const std::string& file : request.files) {
    report.begin(file);
    LateProgress progress("Reading " + printable(file) + ":");
    const auto info = checkpoint::verify(file, progress.call());
    if (info) {
      report.describe_image(*info);
      if (!request.json) {
        std::printf("%s: %s, %s pages\n", printable(file).c_str(),
                    info->incremental() ? "intact, with all its parents" : "intact",
                    grouped(static_cast<double>(info->pages)).c_str());
      }
      report.end();
    } else {
      report.end(info.error(), file);
    }
  }
  return report.finish();
}

}  // namespace pagetrap::tool
