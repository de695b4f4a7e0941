// PageSupplier: how the pages of the old space are closed to the program, opened again, and found
// when they were written; and the collector's own way to them meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>
#include <pagetrap/gc/options.hpp>
#include <pagetrap/vm/fault.hpp>

#include "gc/outcome.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

struct Twin;

class PageSupplier {
 public:
  PageSupplier() = default;
  virtual ~PageSupplier() = default;
  PageSupplier(const PageSupplier&) = delete;
  PageSupplier& operator=(const PageSupplier&) = delete;

  [[nodiscard]] virtual PageSupply id() const noexcept = 0;
  /// Whether pages are really closed.
  [[nodiscard]] virtual bool closes() const noexcept { return true; }
  /// Whether what was written is found beside the program: nothing is closed at a flip (a twin).
  [[nodiscard]] virtual bool finds_later() const noexcept { return false; }
  /// What it supplies. All of it is closed at first.
  [[nodiscard]] virtual PageRange range() const noexcept = 0;
  /// From a byte of the range to the same byte as the collector always sees it.
  [[nodiscard]] virtual std::ptrdiff_t view() const noexcept = 0;
  /// Whether that is the same memory; else a copy, from which open() makes the page.
  [[nodiscard]] virtual bool view_is_memory() const noexcept { return true; }

  /// Closes the whole range. Threads are stopped: nothing here may call malloc.
  virtual Outcome close_all() noexcept = 0;
  /// Opens pages, as far as they are closed. `armed`: the next write to each is to be found.
  virtual Outcome open(PageRange pages, bool armed) noexcept PAGETRAP_SIGNAL_SAFE = 0;
  /// Before the collector writes to pages that nobody uses, by its own way.
  virtual Outcome prepare(PageRange pages) noexcept PAGETRAP_SIGNAL_SAFE {
    static_cast<void>(pages);
    return kDone;
  }
  /// Opens pages that nobody uses, unarmed, for a new object: zero but for the first word.
  virtual Outcome place(PageRange pages, std::uint64_t first_word) noexcept = 0;
  /// Puts the runs of pages of `part` into `out` that were written, or opened unarmed, before the
  /// last close_all(). Between that and settle(). ENOBUFS: more runs than room.
  virtual Result<std::size_t> written(PageRange part, std::span<PageRange> out) noexcept = 0;
  /// Closes some pages. As close_all().
  virtual Outcome close(PageRange pages) noexcept = 0;
  /// Without closing anything: puts the first runs of open pages of `part` into `out` that were
  /// written, and arms them again. `found` of them; all there are if that is fewer than the room.
  /// As close_all().
  virtual Outcome find_written(PageRange part, std::span<PageRange> out,
                               std::size_t& found) noexcept = 0;
  /// Nobody asks for what was written any more.
  virtual Outcome settle() noexcept { return kDone; }
  /// Gives the memory of `pages` back: they read as zero when they are used again.
  virtual Outcome drop(PageRange pages) noexcept = 0;

  /// Calls `handler` for each access to a closed page.
  virtual Outcome on_trap(Handler handler, void* self) noexcept = 0;
  /// Waits for all handlers that began before.
  virtual void quiesce() noexcept = 0;

  /// Whether a fork()ed child has all contents, as a copy of its own. No cycle is under way then.
  [[nodiscard]] virtual bool forks() const noexcept { return false; }
  /// In such a child, before anything else.
  virtual void forked() noexcept {}
};

/// PageSupplier::place() where the view is there at any time.
Outcome place_through_view(PageSupplier& supplier, PageRange pages,
                           std::uint64_t first_word) noexcept;

/// At `address`, or EEXIST; `best` becomes the first that this kernel and this user have.
Result<std::unique_ptr<PageSupplier>> make_supplier(PageSupply which, std::byte* address,
                                                    std::size_t size_bytes);
Result<std::unique_ptr<PageSupplier>> make_uffd_minor(std::byte* address, std::size_t size_bytes);
Result<std::unique_ptr<PageSupplier>> make_uffd_copy(std::byte* address, std::size_t size_bytes);
Result<std::unique_ptr<PageSupplier>> make_mprotect(std::byte* address, std::size_t size_bytes);
Result<std::unique_ptr<PageSupplier>> make_unprotected(std::byte* address, std::size_t size_bytes);
/// Over one of these; of supplies/twin.cpp.
Result<std::unique_ptr<PageSupplier>> make_twin(std::unique_ptr<PageSupplier> inner, Twin& twin);

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
