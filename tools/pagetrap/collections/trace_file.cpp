#include "trace_file.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>

namespace pagetrap::tool {
namespace {

constexpr std::uint64_t kEventsAt = 4096;

Error damaged(const char* remedy, std::uint64_t position) {
  return {"trace file", EBADMSG, {}, remedy, static_cast<std::int64_t>(position)};
}

Result<Done> check(const trace::FileHeader& header, std::uint64_t file_bytes) {
  if (std::memcmp(header.magic, "PTTRACE1", sizeof header.magic) != 0)
    return damaged("this is not a trace file: it does not begin with PTTRACE1", 0);
  if (header.version != 1)
    return Error{"trace file", EPROTO, {}, "it is of another version of pagetrap", 8};
  if (header.event_bytes != sizeof(trace::Event))
    return damaged("its events have another size than those of version 1", 12);
  constexpr std::uint64_t kMost = std::uint64_t{1} << 40;
  if (!std::has_single_bit(header.capacity) || header.capacity > kMost)
    return damaged("its capacity is not a power of two", 16);
  if (file_bytes < kEventsAt + header.capacity * sizeof(trace::Event))
    return damaged("the file has been cut short", file_bytes);
  return Done{};
}

/// Puts the events of `slots`, of which the first is that of `sequence`, into `file`.
Result<Done> take(std::span<const trace::Event> slots, std::uint64_t sequence,
                  std::uint64_t capacity, TraceFile& file) {
  for (const trace::Event& event : slots) {
    const std::uint64_t found = event.sequence;
    const std::uint64_t position = kEventsAt + sequence % capacity * sizeof event;
    if (found == sequence) {
      file.events.push_back(event);
    } else if (found != 0 && found % capacity != sequence % capacity) {
      return damaged("an event has another's number: the file is damaged", position);
    } else if (found > sequence) {
      ++file.overwritten;  // since we looked at the header
    } else {
      ++file.unfinished;
    }
    ++sequence;
  }
  return Done{};
}

}  // namespace

Result<TraceFile> read_trace(const std::string& path) {
  std::error_code refused;
  const std::filesystem::file_status status = std::filesystem::status(path, refused);
  if (refused) return Error{"open of the trace file", refused.value()};
  if (std::filesystem::is_directory(status)) return Error{"open of the trace file", EISDIR};
  std::ifstream in(path, std::ios::binary);
  if (!in) return Error{"open of the trace file", errno};
  const std::uint64_t file_bytes = std::filesystem::file_size(path, refused);
  if (refused) return Error{"size of the trace file", refused.value()};

  trace::FileHeader header{};
  if (!in.read(reinterpret_cast<char*>(&header), sizeof header))
    return damaged("too short for a trace file", file_bytes);
  if (const auto good = check(header, file_bytes); !good) return good.error();

  TraceFile file;
  file.process = header.process;
  file.recorded = header.next;
  const std::uint64_t kept = std::min(header.next, header.capacity);
  file.overwritten = header.next - kept;
  file.events.reserve(kept);
  // In sequence: from the oldest slot to the end of the ring, and from its beginning.
  std::vector<trace::Event> slots(std::min<std::uint64_t>(kept, 16384));
  for (std::uint64_t done = 0; done < kept;) {
    const std::uint64_t sequence = header.next - kept + 1 + done;
    const std::uint64_t slot = sequence % header.capacity;
    const std::uint64_t count =
        std::min<std::uint64_t>({slots.size(), kept - done, header.capacity - slot});
    in.seekg(static_cast<std::streamoff>(kEventsAt + slot * sizeof(trace::Event)));
    if (!in.read(reinterpret_cast<char*>(slots.data()),
                 static_cast<std::streamsize>(count * sizeof(trace::Event))))
      return Error{"read of the trace file", errno != 0 ? errno : EIO};
    const std::span<const trace::Event> read(slots.data(), count);
    if (const auto good = take(read, sequence, header.capacity, file); !good) return good.error();
    done += count;
  }
  return file;
}

}  // namespace pagetrap::tool
