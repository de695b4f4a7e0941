// Detector: which pages did a transaction write? One for each way to find out.
//
//   traps    the first write to a page faults in the writing thread; nothing to search at commit
//   tracked  the kernel resolves the faults; Region::dirty() finds the pages: by a scan of all
//            entries, or by the ring of fault addresses
//   barrier  the program says so, by Transaction::write(): the twin
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include <pagetrap/vm/region.hpp>

#include "store/here.hpp"
#include "store/pages/committed_pages.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

/// The pages behind the header's, from `first` on, as the program sees them.
struct Territory {
  std::byte* base = nullptr;  // of page 0
  std::size_t pages = 0;      // reserved
  CommittedPages* committed = nullptr;
  [[nodiscard]] std::byte* address(PageNumber page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return base + std::size_t{page} * kPageBytes;
  }
  [[nodiscard]] PageNumber page_of(const void* at) const noexcept PAGETRAP_SIGNAL_SAFE {
    return static_cast<PageNumber>(
        static_cast<std::size_t>(static_cast<const std::byte*>(at) - base) / kPageBytes);
  }
  [[nodiscard]] PageRange range(PageNumber first, std::size_t count) const noexcept
      PAGETRAP_SIGNAL_SAFE {
    return {address(first), Pages{count}};
  }
};

/// Part of a page, in bytes; multiples of 8.
struct Piece {
  PageNumber page = 0;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

class Detector {
 public:
  explicit Detector(const Territory& territory) noexcept : territory_(territory) {}
  virtual ~Detector() = default;
  Detector(const Detector&) = delete;
  Detector& operator=(const Detector&) = delete;

  /// The store uses pages up to `used`: they can be touched when this returns.
  virtual Outcome grow(std::size_t used) = 0;
  /// Only that thread (this_thread_mark()) may write from now on; null: nobody may.
  void set_writer(const void* thread) noexcept { writer_.store(thread, std::memory_order_release); }
  /// Appends the pages that were found to have been written since they were last armed, each at
  /// least once. Those that are open are not looked for.
  virtual Outcome collect(std::vector<PageNumber>& out) = 0;
  /// `pages`, sorted, have their committed contents: the next write to them is to be found. Those
  /// with `changed` were written by the transaction that ends.
  virtual Outcome rearm(std::span<const PageNumber> pages,
                        std::span<const std::uint8_t> changed) = 0;
  /// Pages that are not found by themselves when they are written: compared at every commit, and
  /// before every transaction.
  [[nodiscard]] virtual std::span<const PageNumber> open_pages() const noexcept { return {}; }
  /// Transaction::write(): `piece` is about to be written.
  virtual void declare(const Piece& piece);
  /// Where changes can be; empty: anywhere in the collected pages. Until the next collect().
  [[nodiscard]] virtual std::span<const Piece> pieces() const noexcept { return {}; }
  /// Whether writes between two transactions are in the next collect().
  [[nodiscard]] virtual bool finds_strays() const noexcept { return false; }
  [[nodiscard]] virtual const char* name() const noexcept = 0;

 protected:
  /// Whether this thread may. In its handler: faults are delivered in the faulting thread.
  [[nodiscard]] bool may_write() const noexcept PAGETRAP_SIGNAL_SAFE {
    return writer_.load(std::memory_order_acquire) == this_thread_mark();
  }
  Territory territory_;

 private:
  std::atomic<const void*> writer_{nullptr};
};

Result<std::unique_ptr<Detector>> make_trap_detector(const Territory& territory);
Result<std::unique_ptr<Detector>> make_tracked_detector(const Territory& territory, DirtyForm form,
                                                        std::size_t stored_pages);
Result<std::unique_ptr<Detector>> make_barrier_detector(const Territory& territory);

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
