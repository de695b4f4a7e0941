// Source: where a paged region's pages come from, and where they go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap {
inline namespace v0 {
namespace pager {

/// One page in transit. `index` counts pages from the region's start; `bytes` is page_size() bytes
/// of private, page-aligned memory that nobody else touches during the call. It is NOT the page's
/// place in the region.
struct PageRef {
  std::uint64_t index = 0;
  std::byte* bytes = nullptr;
};

/// How far a batch came. Pages [0, done) are done; if `error.number` is not 0, page `done` is the
/// one that failed and the rest was not tried.
struct Transfer {
  std::size_t done = 0;
  std::size_t unchanged = 0;  // write_back: of the done ones, found equal to what was stored
  Error error{};
};

/// What the pager may take for granted. Constant for a source's life.
struct SourceTraits {
  /// Contents are a function of the index. The region is read-only, its pages are dropped, never
  /// written back, and a fork()ed child has them too.
  bool pure = false;
  /// After fill() the source still has the contents: a page that was not written since is dropped
  /// without a call.
  bool retains_copy = false;
  /// write_back() recognises unchanged pages by itself (by their contents). The pager then hands
  /// over every victim, and maps pages writable at once where most of them are written in the end.
  bool finds_changes = false;
  /// fill() or write_back() may take longer than a page fault should (devices, networks, locks that
  /// application code holds). Faults are then served by handler threads, never in a signal handler.
  bool may_block = false;
  /// fill(), write_back() and forget() are signal-safe. Without it, as with may_block.
  bool signal_safe = true;
  /// The store is shared with fork()ed children, and what parent and child write would mix: such a
  /// region is absent in the child.
  bool shared_store = false;
  /// prepare() does something useful.
  bool prepares = false;
};

/// Threads  Any number of threads at once, never two calls for one page at once, except prepare()
///          beside anything. Not called while any lock of the pager is held: a fill may itself
///          fault in pages of other regions.
/// Signals  fill, write_back and forget run inside signal handlers, with asynchronous signals
///          blocked, unless traits() say otherwise: they allocate nothing from the program's heap,
///          and may wait only for threads that are inside this source.
/// Life     A source outlives the regions that use it. One source may serve one region only.
class PAGETRAP_API Source {
 public:
  virtual ~Source();

  [[nodiscard]] virtual SourceTraits traits() const noexcept = 0;

  /// Write the contents of each page to its `bytes`, all of them. Pages are in ascending order, the
  /// first is the one that is waited for.
  virtual Transfer fill(std::span<const PageRef> pages) noexcept PAGETRAP_SIGNAL_SAFE = 0;

  /// Store the pages. Their contents are stable; after the call the pager forgets them, unless
  /// somebody touched the page meanwhile: then it stays resident, and comes again. After an error
  /// the failed page stays resident.
  virtual Transfer write_back(std::span<const PageRef> pages) noexcept PAGETRAP_SIGNAL_SAFE;

  /// Pages [first, first + count) that fill() brought are in their places, and will come to
  /// write_back() or forget() before they are asked for again. Pages that fill() brought may also
  /// be given up without this, and asked for again: a source may not let go of them before. `soon`:
  /// how many of them twice the memory would have kept.
  virtual void arrived(std::uint64_t first, std::size_t count, std::size_t soon) noexcept
      PAGETRAP_SIGNAL_SAFE;

  /// The contents of pages [first, first + count) are not wanted any more (Region::discard). Later
  /// fills of them give what a fresh page has.
  virtual void forget(std::uint64_t first, std::size_t count) noexcept PAGETRAP_SIGNAL_SAFE;

  /// Pages that will be filled soon, from the pager's helper thread or a hint: a chance to start
  /// reading (posix_fadvise, a pipelined request). May do nothing.
  virtual void prefetch(std::uint64_t first, std::size_t count) noexcept;

  /// Copies of pages that will be victims soon, made while the program may have been writing them:
  /// perhaps torn, perhaps stale. A source that recognises contents may compress or send such a
  /// copy now, so that write_back() finds it equal. From the pager's helper thread only, never from
  /// a signal handler.
  virtual void prepare(std::span<const PageRef> snapshots) noexcept;

  /// Bytes of memory the source holds for its pages: they count against the pager's budget. Read at
  /// every fault: keep a counter.
  [[nodiscard]] virtual std::size_t memory_bytes() const noexcept PAGETRAP_SIGNAL_SAFE;

  /// In a fork()ed child, before fork() returns there: only the forking thread exists, no call of
  /// this source was under way.
  virtual void in_child() noexcept;
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
