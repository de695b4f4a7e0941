// A cut becomes a file.
#pragma once

#include <string>

#include <pagetrap/checkpoint/image.hpp>
#include <pagetrap/core/result.hpp>

#include "checkpoint/image/writer.hpp"
#include "checkpoint/process/census.hpp"
#include "checkpoint/process/memory_cut.hpp"
#include "checkpoint/process/record.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// Of `info`: id, parent, generation, created_ns, compression. `record`'s objects get the places of
/// their contents. Errors  those of file_sink() and ImageWriter.
Result<ImageWriter::Counts> save_image(const std::string& path, ImageInfo info, Record& record,
                                       const ObjectContents& contents, const MemoryCut& memory,
                                       unsigned threads, const Progress& progress);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
