// image merge and image extract: files made of images.
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include <pagetrap/checkpoint/sink.hpp>

#include "../text/screen.hpp"
#include "report.hpp"

namespace pagetrap::tool {

namespace {

using checkpoint::Compression;
using checkpoint::ImageInfo;

bool is_standard_output(const std::string& output) { return output == "-"; }

Result<std::unique_ptr<checkpoint::Sink>> open_output(const std::string& output) {
  if (!is_standard_output(output)) return checkpoint::file_sink(output);
  if (::isatty(STDOUT_FILENO) == 1) {
    return Error{"write to a terminal", EINVAL, {}, "give -o a file, or send the output to one"};
  }
  return checkpoint::descriptor_sink(STDOUT_FILENO);
}

Compression compression_named(const std::string& wanted, Compression otherwise) {
  for (const Compression each : {Compression::none, Compression::lz4, Compression::zstd}) {
    if (wanted == checkpoint::name(each)) return each;
  }
  return otherwise;
}

/// The region that is meant, by its name or as inspect prints it.
const checkpoint::ImageRegion* find_region(const ImageInfo& info, const ImageRequest& request) {
  if (!request.has_region) return info.regions.size() == 1 ? &info.regions[0] : nullptr;
  for (const auto& region : info.regions) {
    if (region.name == request.region || printable(region.name) == request.region) return &region;
  }
  return nullptr;
}

/// JSON and the output cannot both go to standard output.
bool refuse_mixture(const ImageRequest& request) {
  if (!request.json || !is_standard_output(request.output)) return false;
  std::fputs("pagetrap: --json and -o - would both be printed; give -o a file\n", stderr);
  return true;
}

void merge_one(ImageReport& report, const ImageRequest& request) {
  const std::string& file = request.files[0];
  report.begin(file);
  const auto old = checkpoint::inspect(file);
  if (!old) return report.end(old.error(), file);
  const auto sink = open_output(request.output);
  if (!sink) return report.end(sink.error(), request.output);
  LateProgress progress("Merging " + printable(file) + ":");
  const auto merged = checkpoint::merge(
      file, **sink, compression_named(request.compression, old->compression), progress.call());
  if (!merged) return report.end(merged.error(), file + " to " + request.output);
  report.writer().member("output", printable(request.output));
  report.describe_image(*merged);
  report.end();
  if (!request.json && !is_standard_output(request.output)) {
    std::printf("%s: full image %s, %s\n", printable(request.output).c_str(),
                checkpoint::text(merged->id).c_str(),
                size_text(static_cast<double>(merged->file_bytes)).c_str());
  }
}

void extract_one(ImageReport& report, const ImageRequest& request) {
  const std::string& file = request.files[0];
  report.begin(file);
  const auto info = checkpoint::inspect(file);
  if (!info) return report.end(info.error(), file);
  const checkpoint::ImageRegion* const region = find_region(*info, request);
  if (region == nullptr) {
    const Error error{
        "extract",
        EINVAL,
        {},
        request.has_region ? "there is no such region" : "choose a region with --region"};
    report.end(error, file);
    std::fputs("Its regions:", stderr);
    for (const auto& each : info->regions) {
      std::fprintf(stderr, " \"%s\"", printable(each.name).c_str());
    }
    std::fputs("\n", stderr);
    return;
  }
  const auto sink = open_output(request.output);
  if (!sink) return report.end(sink.error(), request.output);
  LateProgress progress("Extracting from " + printable(file) + ":");
  const auto done = checkpoint::extract(file, region->name, **sink, progress.call());
  if (!done) return report.end(done.error(), file + " to " + request.output);
  report.writer().member("output", printable(request.output));
  report.writer().member("region", printable(region->name));
  report.writer().member("size_bytes", region->size_bytes);
  report.end();
  if (!request.json && !is_standard_output(request.output)) {
    std::printf("%s: region \"%s\", %s\n", printable(request.output).c_str(),
                printable(region->name).c_str(),
                size_text(static_cast<double>(region->size_bytes)).c_str());
  }
}

}  // namespace

int image_merge(const ImageRequest& request) {
  if (refuse_mixture(request)) return kUsage;
  ImageReport report("merge", request.json);
  merge_one(report, request);
  return report.finish();
}

int image_extract(const ImageRequest& request) {
  if (refuse_mixture(request)) return kUsage;
  ImageReport report("extract", request.json);
  extract_one(report, request);
  return report.finish();
}

}  // namespace pagetrap::tool
