// Where the pages of a restarted process come from.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include <pagetrap/core/result.hpp>

#include "checkpoint/process/ranges.hpp"
#include "checkpoint/process/rebirth.hpp"
#include "checkpoint/process/stored_process.hpp"
#include "sys/fd.hpp"

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {
namespace process {

/// Pages that are the process's own alone: of no file.
Runs plain_runs(const Record& record);
/// Pages of mapped files that the process changed.
Runs own_runs(const Record& record);

/// What of the image can be mapped as it is, in pieces worth it.
std::vector<MappedPages> mappable_pages(const StoredProcess& stored);
/// Whether all blocks are stored as they are.
bool is_mappable(const StoredProcess& stored);

/// Reads, checks and writes pages into the stopped process: of `plain` where it may write itself,
/// of `own` where it need not. Pages that the image does not have are zero in `own`, and are so
/// already in `plain`. Errors  EBADMSG; those of process_vm_writev(2).
Result<Done> fill(const StoredProcess& stored, pid_t process, const Runs& plain, const Runs& own,
                  unsigned threads);

/// Serves the faults of a process whose plain memory is absent, and brings the rest by and by.
class LazySupply {
 public:
  /// `userfaultfd` is one for that process's memory, not used yet. Takes it over.
  static Result<std::unique_ptr<LazySupply>> start(const StoredProcess& stored, pid_t process,
                                                   sys::Descriptor userfaultfd, Runs plain);
  ~LazySupply();
  /// Waits until all is there, or the process has ended.
  Result<Done> finish();

 private:
  struct Context;
  LazySupply(const StoredProcess& stored, pid_t process);
  void serve();
  Result<Done> read_events(Context& context, bool& faults);
  Result<Done> bring(Context& context, const Run& pages);
  Result<Done> bring_rest_of_block(Context& context);
  Result<Done> load(std::uint32_t block);

  static constexpr std::uint32_t kNoBlock = ~std::uint32_t{0};
  const StoredProcess& stored_;
  pid_t process_;
  std::vector<std::unique_ptr<Context>> contexts_;
  std::vector<std::byte> pages_;  // of the block that was loaded last
  std::vector<std::byte> scratch_;
  std::uint32_t loaded_ = kNoBlock;
  std::vector<std::vector<const StoredPages*>> of_block_;
  std::thread server_;
  Error error_;
  std::atomic<bool> stop_{false};
};

}  // namespace process
}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
