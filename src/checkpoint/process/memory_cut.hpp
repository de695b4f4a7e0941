// MemoryCut: the private memory of a process at one instant, and which pages of it an image needs.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <pagetrap/core/result.hpp>

#include "checkpoint/process/proc_files.hpp"
#include "checkpoint/process/ranges.hpp"
#include "checkpoint/process/record.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

struct OwnPages {
  Runs own;       // with contents that the process has of its own, and no file has
  Runs doubtful;  // of these: what may as well be a file's page that is not there. They are not
                  // where tracking has left no marks, as in a frozen copy
};
/// Of private mappings, by the page map. Contents of mappings whose file is gone are all its own.
/// `before`: pages of files that are known to have been its own: the mark that tracking leaves in
/// the place of a file's page cannot be told from a page of them that was swapped out.
/// `within`: anonymous memory is looked at only there.
Result<OwnPages> own_pages(pid_t process, const std::vector<Mapping>& mappings, const Runs& before,
                           const Runs& within);

/// Blocks of 2 MiB where a page of `known` is gone, which was there at the last cut and was not
/// written since, as far as tracking knows. It knows of pages that were dropped, unless their whole
/// page table went (Linux 6.14 frees empty ones): then none of the block is there, and one page
/// tells for all. Costs a system call for each block, and not a look at each page.
Result<Runs> blocks_without_table(pid_t process, const Runs& known);

/// Mappings with private contents, as runs.
Runs private_runs(const std::vector<Mapping>& mappings);
/// Of these, those of files that are there.
Runs file_runs(const std::vector<Mapping>& mappings);

/// Pages that were read while the process stood still.
class CopiedPages {
 public:
  /// Precondition: nothing of `runs`, which are sorted, is here yet.
  /// Errors  ENOMEM; those of process_vm_readv(2) and /proc/PID/mem.
  Result<Done> add(pid_t process, const Runs& runs);
  [[nodiscard]] const Runs& runs() const noexcept { return runs_; }
  /// Nothing is here; the memory is kept for the next cut, which would wait for it.
  void clear() noexcept {
    runs_.clear();
    places_.clear();
    used_ = 0;
  }
  /// Memory for so many bytes, so that add() does not wait for it. Errors  ENOMEM.
  Result<Done> make_room(std::uint64_t bytes);
  /// What comes first at `start`: bytes that are here, and are put into `out`, or a gap.
  struct Stretch {
    bool here = false;
    std::size_t length = 0;  // at most that of `out`
  };
  [[nodiscard]] Stretch read(std::uint64_t start, std::span<std::byte> out) const;

 private:
  Runs runs_;
  std::vector<std::uint64_t> places_;  // in bytes_, by run
  std::vector<std::byte> bytes_;       // `used_` of them
  std::uint64_t used_ = 0;
};

struct MemoryCut {
  pid_t copy = 0;  // a frozen one; 0: all is in `copied` and `ahead`
  CopiedPages
      copied;         // in the stop: what a fork does not take along, or all that is not in `ahead`
  CopiedPages ahead;  // before it; what was written since is in `copied` too, which comes first
  Runs wanted;        // to be saved
  Runs zero;          // that the parents have, and that are zero now

  /// Errors  ESRCH: the copy is gone.
  Result<Done> read(std::uint64_t start, std::span<std::byte> out) const;
};

/// Copies pages of `written` that are the process's own, while it runs: after they were marked, so
/// that a write that comes between is known. `before` as for own_pages(). What cannot be read,
/// since a mapping has gone, is left out.
Result<Done> copy_ahead(pid_t process, const std::vector<MapLine>& lines, const Runs& written,
                        const Runs& before, CopiedPages& out);

/// Memory of any protection.
Result<Done> read_any_memory(pid_t process, std::uint64_t address, std::span<std::byte> out);

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
