#include "checkpoint/process/tracking.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "sys/kernel_abi.hpp"
#include "sys/pagemap.hpp"
#include "sys/userfaultfd.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {
namespace {

PageRange range_of(std::uint64_t start, std::uint64_t end) {
  return {reinterpret_cast<std::byte*>(start), pages_for(end - start)};
}

}  // namespace

bool can_be_watched(const MapLine& line) { return !line.shared && !line.name.starts_with("[v"); }

Result<Tracking> Tracking::begin(pid_t process, sys::Descriptor userfaultfd) {
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_WP_ASYNC;
  if (::ioctl(userfaultfd.get(), UFFDIO_API, &api) != 0)
    return Error{"userfaultfd", ENOTSUP, {}, "writes can be tracked from Linux 6.7 on"};
  Tracking tracking;
  tracking.userfaultfd_ = std::move(userfaultfd);
  tracking.pagemap_ =
      sys::Descriptor(::open(proc_path(process, "pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  if (!tracking.pagemap_.valid()) return Error{"open /proc/PID/pagemap", errno};
  return tracking;
}

// `watched`: it was registered all the time since the last scan. The kernel refuses others.
Result<Done> Tracking::scan(const MapLine& line, Runs& out, bool& watched) {
  std::vector<PageRange> found;
  const auto scanned =
      sys::scan_written(pagemap_.get(), range_of(line.start, line.end), true, found);
  watched = static_cast<bool>(scanned);
  if (!scanned && scanned.error().number != EPERM && scanned.error().number != ENOMEM)
    return scanned.error();
  for (const PageRange& run : found)
    out.push_back(
        {reinterpret_cast<std::uint64_t>(run.base), reinterpret_cast<std::uint64_t>(run.end())});
  return Done{};
}

Result<Done> Tracking::look_ahead(const std::vector<MapLine>& lines) {
  for (const MapLine& line : lines) {
    if (!can_be_watched(line)) continue;
    bool watched = false;
    if (auto scanned = scan(line, ahead_, watched); !scanned) return scanned;
    if (watched) continue;
    // RACE the mapping may be gone, or another one, by now: then registering it fails or does no
    // harm, and look() finds out what is watched.
    if (sys::uffd_register(userfaultfd_.get(), range_of(line.start, line.end),
                           UFFDIO_REGISTER_MODE_WP) != 0)
      continue;  // of a kind that cannot be watched: always saved whole
    // All that is there counts as written: nothing of it was looked at before.
    ahead_.push_back({line.start, line.end});
    Runs discarded;
    if (auto scanned = scan(line, discarded, watched); !scanned) return scanned;
  }
  ahead_ = tidy(std::move(ahead_));
  return Done{};
}

Result<Tracking::Written> Tracking::look(const std::vector<MapLine>& lines) {
  Written result;
  for (const MapLine& line : lines) {
    if (!can_be_watched(line)) continue;
    bool watched = false;
    if (auto scanned = scan(line, result.written, watched); !scanned) return scanned.error();
    if (watched) result.watched.push_back({line.start, line.end});
  }
  result.watched = tidy(std::move(result.watched));
  result.fresh = tidy(std::move(result.written));
  result.written = unite(result.fresh, std::exchange(ahead_, {}));
  return result;
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
