// CommittedPages: the contents of every page as of the last commit, wherever they are: in the
// *image*, a copy in memory of the pages that this process has changed; or else in the data file,
// with what recovery found in the log on top.
//
// The image is what a commit is compared with, what an abort puts back, and what a checkpoint
// writes, so that a checkpoint never sees what a transaction is doing.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "store/disk/disk.hpp"
#include "store/format/layout.hpp"
#include "store/log/pending.hpp"
#include "store/memory.hpp"
#include "store/outcome.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

/// Of a store that is mapped elsewhere than its file says: relocation/forms.hpp.
class PageForms {
 public:
  virtual ~PageForms() = default;
  /// `contents` of `page` from the file's form to memory's, or back. May load other pages.
  virtual Outcome exchange(PageNumber page, std::byte* contents) noexcept PAGETRAP_SIGNAL_SAFE = 0;
};

class CommittedPages {
 public:
  struct Shape {
    std::uint64_t data_offset = 0;
    std::uint64_t seed = 0;
    std::size_t pages = 0;  // that there may ever be
  };
  static Result<std::unique_ptr<CommittedPages>> create(Disk& disk, const Shape& shape,
                                                        PendingRuns pending);

  /// From now on contents are in memory's form. Borrowed. Null: both are the same.
  void set_forms(PageForms* forms) noexcept { forms_ = forms; }
  [[nodiscard]] PageForms* forms() const noexcept { return forms_; }
  /// Forgets what is in the image: nobody has looked at it. Only before the store is used.
  void forget(PageNumber page) noexcept {
    if (state_[page].exchange(kAbsent) == kPresent) image_pages_.fetch_sub(1);
  }

  /// Committed contents of `page` into `to`, verified. Error{EBADMSG} names the place in the file.
  Outcome load(PageNumber page, std::byte* to) noexcept PAGETRAP_SIGNAL_SAFE;
  /// Has `page` in the image, from wherever it is.
  Outcome materialise(PageNumber page) noexcept PAGETRAP_SIGNAL_SAFE;
  /// The same, when `contents` are known to be the committed ones.
  void adopt(PageNumber page, const std::byte* contents) noexcept PAGETRAP_SIGNAL_SAFE;
  /// In the image. Precondition: it is there.
  [[nodiscard]] std::byte* image(PageNumber page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return image_.data() + std::size_t{page} * kPageBytes;
  }
  [[nodiscard]] bool in_image(PageNumber page) const noexcept PAGETRAP_SIGNAL_SAFE {
    return state_[page].load(std::memory_order_acquire) == kPresent;
  }

  /// `page` differs from the data file. Under changed_lock().
  void mark_changed(PageNumber page);
  /// So many calls of that need no memory.
  void reserve_changed(std::size_t pages) {
    const std::size_t wanted = changed_.size() + pages;
    if (wanted > changed_.capacity()) changed_.reserve(2 * wanted);
  }
  /// All that do, in order, and none from now on. Under changed_lock().
  std::vector<PageNumber> take_changed();
  /// Held while a commit goes to the image, and while a checkpoint copies pages out of it.
  std::mutex& changed_lock() noexcept { return changed_lock_; }

  /// Checksums of a group's pages, as the data file has them, loaded.
  Outcome load_sums(std::uint64_t group) noexcept PAGETRAP_SIGNAL_SAFE;
  [[nodiscard]] std::uint64_t* sums(std::uint64_t group) const noexcept PAGETRAP_SIGNAL_SAFE {
    return sums_.data() + group * kGroupPages;
  }
  [[nodiscard]] std::uint64_t seed() const noexcept { return shape_.seed; }
  [[nodiscard]] std::uint64_t data_offset() const noexcept { return shape_.data_offset; }
  /// Pages that the file has room for; the others are zeroes.
  /// Never fewer than before.
  void set_file_pages(std::uint64_t pages) noexcept {
    std::uint64_t before = file_pages();
    while (before < pages && !file_pages_.compare_exchange_weak(before, pages)) {
    }
  }
  [[nodiscard]] std::uint64_t file_pages() const noexcept PAGETRAP_SIGNAL_SAFE {
    return file_pages_.load(std::memory_order_acquire);
  }
  /// Pages of the image.
  [[nodiscard]] std::uint64_t image_pages() const noexcept {
    return image_pages_.load(std::memory_order_relaxed);
  }

 private:
  enum State : std::uint8_t { kAbsent, kFilling, kPresent };
  CommittedPages(Disk& disk, const Shape& shape) noexcept : disk_(disk), shape_(shape) {}
  Outcome load_from_file(PageNumber page, std::byte* to) noexcept PAGETRAP_SIGNAL_SAFE;
  bool claim(PageNumber page) noexcept PAGETRAP_SIGNAL_SAFE;

  Disk& disk_;
  const Shape shape_;
  SparseArray<std::byte> image_;
  SparseArray<std::atomic<std::uint8_t>> state_;
  SparseArray<std::uint64_t> sums_;
  SparseArray<std::atomic<std::uint8_t>> sums_state_;  // by group
  SparseArray<bool> is_changed_;                       // GUARDED_BY(changed_lock_)
  std::vector<PageNumber> changed_;                    // the same
  std::mutex changed_lock_;
  PendingRuns pending_;
  PageForms* forms_ = nullptr;
  std::atomic<std::uint64_t> file_pages_{0};
  std::atomic<std::uint64_t> image_pages_{0};
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
