#include "checkpoint/process/area.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "checkpoint/process/proc_files.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

Result<std::uint64_t> find_system_call(pid_t process) {
  const auto text = read_whole(proc_path(process, "maps"));
  if (!text) return text.error();
  for (const MapLine& line : parse_maps(*text)) {
    if (line.name != "[vdso]") continue;
    std::vector<std::byte> code(line.end - line.start);
    if (auto read = read_memory(process, line.start, code); !read) return read.error();
    const std::array wanted{std::byte{0x0f}, std::byte{0x05}};  // syscall
    const auto found = std::search(code.begin(), code.end(), wanted.begin(), wanted.end());
    if (found != code.end()) return line.start + static_cast<std::uint64_t>(found - code.begin());
  }
  return Error{"a cut", ENOTSUP, {}, "the process has no vdso with a system call"};
}

Result<Area> Area::map_in(StoppedProcess& stopped) {
  const auto instruction = find_system_call(stopped.process());
  if (!instruction) return instruction.error();
  const std::uint64_t bytes = size_for(2 * stopped.threads().size() + 64);
  const std::array<std::uint64_t, 6> whole{
      0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, ~std::uint64_t{0}, 0};
  const auto base = stopped.call(*instruction, SYS_mmap, whole);
  if (!base) return base.error();
  if (*base < 0 && *base > -4096) return Error{"mmap in another process", static_cast<int>(-*base)};
  const Area area(static_cast<std::uint64_t>(*base), bytes);
  const std::array<std::uint64_t, 3> code{area.base_, kCodeBytes, PROT_READ | PROT_EXEC};
  const auto made = stopped.call(*instruction, SYS_mprotect, code);
  if (!made) return made.error();
  if (*made != 0) return Error{"mprotect in another process", static_cast<int>(-*made)};
  if (auto put = force_memory(stopped.process(), area.base_, carried_code().bytes); !put)
    return put.error();
  return area;
}

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
