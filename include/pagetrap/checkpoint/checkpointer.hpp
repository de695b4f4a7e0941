// Checkpointer: names the memory that matters, and saves it as of one instant while its threads go
// on. Start reading here; docs/design/checkpoint.md tells how.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>

#include <pagetrap/checkpoint/arena.hpp>
#include <pagetrap/checkpoint/image.hpp>
#include <pagetrap/checkpoint/sink.hpp>
#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

struct CheckpointerState;  // src/checkpoint/checkpointer.cpp

/// How the instant of a checkpoint is taken.
enum class Cut : std::uint8_t {
  automatic,       // what a trial on this machine shows to be fastest (30 ms), of what the options
                   // allow: protection_key only without kernel_accesses
  lift,            // move the page tables away: constant time, no signals
  protection_key,  // a signal to each thread: time grows with threads. Reads go on. Does not stop
                   // process_vm_writev(2), ptrace(2) and io_uring's own threads
  write_protect,   // all pages: time grows with pages; the only one for added regions
};
PAGETRAP_API const char* name(Cut cut) noexcept;

struct CheckpointerOptions {
  Cut cut = Cut::automatic;
  bool incremental = true;       // notice writes, for smaller images: by protection where system
                                 // calls are served, else by the kernel (6.7; lift and keys)
  bool kernel_accesses = true;   // system calls into memory being saved wait, where this user may
                                 // have that; otherwise, and if false, they fail with EFAULT
                                 // during saves, and faults are served faster
  bool huge_pages = false;       // ask for 2 MiB pages in arenas; not with the lift cut
  std::size_t extra_memory = 0;  // bytes, the most a save may take; 0: a tenth of the heap
  Compression compression = Compression::none;
  unsigned threads = 0;  // that encode and write; 0: one, or one for each processor if compressing
};

/// What one checkpoint did, in the words of CRIU where it has some.
struct Statistics {
  ImageId id{};
  ImageId parent{};
  std::uint64_t generation = 0;
  Cut cut = Cut::automatic;
  double protecting_us = 0;  // ahead of the cut, while threads go on: most of its work
  double freezing_us = 0;    // from then to the cut: hooks, and taking it
  double frozen_us = 0;      // of that, the cut itself: a thread may be stopped this long
  double save_us = 0;        // from the cut until all of it was in the sink
  std::uint64_t pages_scanned = 0;
  std::uint64_t pages_written = 0;
  std::uint64_t pages_zero = 0;
  std::uint64_t pages_duplicate = 0;
  std::uint64_t pages_skipped_parent = 0;  // not written since the parent
  std::uint64_t bytes = 0;                 // of the image
  std::uint64_t faults = 0;                // of threads that touched what was not saved yet
  std::uint64_t waits_for_memory = 0;      // of those, stopped by extra_memory
  std::uint64_t peak_extra_bytes = 0;
};

/// Called around checkpoints and restores. `before_cut` and `after_cut` run in the thread that
/// saves, with only the cut between them: take locks, and give them back. What after_cut touches of
/// the memory has to be saved first, while the locks are held: better touch nothing there.
struct Hooks {
  std::function<void()> before_cut{};
  std::function<void()> after_cut{};
  std::function<void()> after_restore{};  // reseed random numbers, reopen files
};

struct SaveOptions {
  bool full = false;  // not an increment, whatever there is
  /// Pages so far and to look at; false stops the save (ECANCELED). In a thread of the save.
  Progress progress{};
};

enum class RestoreMode : std::uint8_t {
  eager,   // all of it is read and checked before the call returns
  mapped,  // all of it is read and checked; pages are put in place from the page cache as for lazy
  lazy,    // returns at once; pages come when they are touched, and by and by. One that turns out
           // damaged when it is touched is a SIGBUS or SIGSEGV there, with a line on stderr. As
           // eager where the cut is write_protect: those pages do not fault when they are absent
};

struct PeriodicOptions {
  std::string directory{};  // images are NAME.000001.ckpt, NAME.000002.ckpt ...
  std::string name = "checkpoint";
  std::chrono::milliseconds every{60'000};
  unsigned keep = 2;         // generations that can be restored, with all the images they need
  unsigned full_every = 16;  // images; those between are increments
  /// After each, in the thread that saves. An error does not end the series.
  std::function<void(const Result<Statistics>&)> done{};
};

/// Threads  every function may be called by any thread; checkpoints and restores exclude each
/// other.
///          Not from signal handlers, nor from fault handlers. After fork() the child has the
///          memory, and may start checkpoints of its own; a series goes on in the parent only.
///          fork() waits for a lazy restore that is not complete.
class PAGETRAP_API Checkpointer {
 public:
  /// Errors  ENOTSUP: this machine lacks the cut that was asked for; the remedy says what is.
  static Result<Checkpointer> create(const CheckpointerOptions& options = {});
  Checkpointer(Checkpointer&& other) noexcept;
  Checkpointer& operator=(Checkpointer&& other) noexcept;
  /// Waits for a checkpoint under way and ends the series. Arenas end with it.
  ~Checkpointer();

  /// Only one Checkpointer of a process can have arenas at a time: they would begin at the same
  /// address. Makes an arena of at most `capacity` bytes, rounded up to 1 GiB of addresses.
  /// Addresses are a matter of the order in which a program makes its arenas: the same in every
  /// run. Memory is used as it is allocated. Errors  EEXIST: the name, or the addresses, are taken;
  /// ENOMEM; EINVAL.
  Result<Arena*> arena(const std::string& name, std::size_t capacity);

  /// Adds memory that somebody else mapped: private anonymous memory, whole pages. It must outlive
  /// this object. Its cut is write_protect, whatever the arenas' is. Where system calls are not
  /// served it is always saved whole. Not the memory that malloc keeps its own lists in: the
  /// threads that save use malloc, and would wait for a thread that holds its lock and waits for
  /// them.
  Result<Done> add_region(const std::string& name, PageRange range);

  void set_hooks(Hooks hooks);

  /// Takes a cut, and writes the image to `sink`: returns when it is committed. `sink` may not
  /// touch memory that is being saved. It is an increment if writes are tracked and the sink is a
  /// file in the directory of the last image, under a name that none of its parents has; else a
  /// full image. Errors  the sink's; EBUSY: a lazy restore is not complete yet; ECANCELED. Whatever
  /// happens, the
  ///         program's memory is as it should be, and no thread stays frozen.
  Result<Statistics> checkpoint(Sink& sink, const SaveOptions& options = {});
  /// The same in a thread of its own. The cut has been taken, or has failed, when this returns.
  std::future<Result<Statistics>> checkpoint_async(std::unique_ptr<Sink> sink,
                                                   SaveOptions options = {});

  /// Checkpoints into a directory from now on, every so often.
  Result<Done> start_periodic(PeriodicOptions options);
  /// Waits for the checkpoint under way, unless `done` calls it.
  void stop_periodic() noexcept;

  /// Puts the memory of an image back: of a file, or of the newest good image in a directory.
  /// Arenas that the image has and this object does not are made. Regions must have been added, at
  /// the same addresses. Meant for a fresh process: whatever the arenas held is gone. Errors  those
  /// of inspect() and verify(); EEXIST: an address is taken.
  Result<ImageInfo> restore(const std::string& path, RestoreMode mode = RestoreMode::eager);
  /// Waits until a lazy restore is complete.
  /// Errors  EBADMSG, EIO: the image turned out damaged.
  Result<Done> finish_restore();

  /// What will be used. `automatic` has become one of the others.
  [[nodiscard]] Cut cut() const noexcept;
  [[nodiscard]] bool serves_kernel_accesses() const noexcept;
  [[nodiscard]] bool tracks_writes() const noexcept;
  [[nodiscard]] Arena* find_arena(const std::string& name) const noexcept;

 private:
  friend struct CheckpointerState;
  explicit Checkpointer(std::unique_ptr<CheckpointerState> state) noexcept;
  std::unique_ptr<CheckpointerState> state_;
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
