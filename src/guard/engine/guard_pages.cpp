#include "guard/engine/guard_pages.hpp"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include <pagetrap/vm/features.hpp>

#include "sys/kernel_abi.hpp"
#include "sys/memory_calls.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/userfaultfd.hpp"

namespace pagetrap {
inline namespace v0 {
namespace guard {
namespace {

constexpr std::size_t kLeast = 1_GiB;
constexpr int kPlain = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
constexpr int kOpen = PROT_READ | PROT_WRITE;
// High, since programs close what they do not know from 3 on.
constexpr int kLowestDescriptor = 900;

std::byte* map(std::byte* where, std::size_t size, int protection, int more = 0) noexcept {
  void* const got = sys::plain_mmap(where, size, protection, kPlain | more, -1, 0);
  return got == MAP_FAILED ? nullptr : static_cast<std::byte*>(got);
}

bool lost(int error) noexcept { return error == EBADF || error == ENOTTY || error == ENOENT; }

}  // namespace

bool GuardPages::reserve_addresses(std::size_t bytes, int protection) noexcept {
  mapped_bytes_ = bytes + kChunkBytes;
  mapped_ = map(nullptr, mapped_bytes_, protection);
  if (mapped_ == nullptr) return false;
  const std::uintptr_t base =
      (reinterpret_cast<std::uintptr_t>(mapped_) + kChunkBytes - 1) & ~(kChunkBytes - 1);
  layout_ = Layout(base, bytes / kShares);
  // What the alignment leaves over is a guard too.
  std::byte* const first = reinterpret_cast<std::byte*>(base);
  std::byte* const last = first + bytes;
  if (protection != PROT_NONE &&
      (sys::plain_mprotect(mapped_, static_cast<std::size_t>(first - mapped_), PROT_NONE) != 0 ||
       sys::plain_mprotect(last, static_cast<std::size_t>(mapped_ + mapped_bytes_ - last),
                           PROT_NONE) != 0))
    return false;
  // A huge page would open 511 guards. EINVAL: a kernel without them.
  static_cast<void>(sys::plain_madvise(mapped_, mapped_bytes_, MADV_NOHUGEPAGE));
  return true;
}

int GuardPages::open_uffd() const noexcept {
  const bool to_thread = to_thread_.load(std::memory_order_relaxed);
  auto opened =
      sys::open_userfaultfd(to_thread ? UFFD_FEATURE_POISON : UFFD_FEATURE_SIGBUS, to_thread, true);
  if (!opened) return -1;
  int descriptor = ::fcntl(opened->descriptor.get(), F_DUPFD_CLOEXEC, kLowestDescriptor);
  if (descriptor < 0) descriptor = ::fcntl(opened->descriptor.get(), F_DUPFD_CLOEXEC, 3);
  return descriptor;
}

PageRange GuardPages::small_range() const noexcept {
  return {reinterpret_cast<std::byte*>(layout_.base()), pages_for(layout_.small_bytes())};
}

// RACE others use the new one as soon as it is stored: not before all is registered with it.
bool GuardPages::use(int opened) noexcept {
  if (opened < 0) return false;
  if (sys::uffd_register(opened, small_range(), UFFDIO_REGISTER_MODE_MISSING) != 0) {
    ::close(opened);
    return false;
  }
  uffd_.store(opened, std::memory_order_release);
  return true;
}

Result<Layout> GuardPages::reserve(Mechanism wanted, std::size_t bytes) noexcept {
  most_mappings_ = static_cast<int>(max_map_count() / 2);
  mechanism_ = wanted;
  int opened = -1;
  if (wanted == Mechanism::best || wanted == Mechanism::userfaultfd) {
    opened = open_uffd();
    if (opened >= 0) {
      mechanism_ = Mechanism::userfaultfd;
    } else if (wanted == Mechanism::userfaultfd) {
      return Error{"userfaultfd", errno, {}, "see `pagetrap doctor`"};
    }
  }
  std::size_t share = kLeast / 32;
  while (share * kShares * 2 <= bytes) share *= 2;  // a power of two
  std::size_t size = share * kShares;
  const bool by_uffd = mechanism_ == Mechanism::userfaultfd;
  while (!reserve_addresses(size, by_uffd ? kOpen : PROT_NONE)) {
    if (size <= kLeast) {
      if (opened >= 0) ::close(opened);
      return Error{"mmap of addresses for guards", ENOMEM, {}, "raise RLIMIT_AS (ulimit -v)"};
    }
    size /= 2;
  }
  zeroes_ = map(nullptr, page_size(), kOpen);
  if (zeroes_ == nullptr) return Error{"mmap", ENOMEM};
  if (by_uffd) {
    // What is not registered has to be closed in another way.
    if (sys::plain_mprotect(reinterpret_cast<void*>(layout_.base() + layout_.small_bytes()),
                            layout_.size_bytes() - layout_.small_bytes(), PROT_NONE) != 0) {
      ::close(opened);
      return Error{"mprotect", errno};
    }
    if (!use(opened)) return Error{"UFFDIO_REGISTER", errno};
    return layout_;
  }
  const PageRange probe{reinterpret_cast<std::byte*>(layout_.base()), Pages{1}};
  const bool has_markers =
      sys::advise(probe, MADV_GUARD_INSTALL) == 0 && sys::advise(probe, MADV_GUARD_REMOVE) == 0;
  if (wanted == Mechanism::markers && !has_markers)
    return Error{"MADV_GUARD_INSTALL", EINVAL, {}, "needs Linux 6.13"};
  if (mechanism_ == Mechanism::best)
    mechanism_ = has_markers ? Mechanism::markers : Mechanism::mprotect;
  return layout_;
}

void GuardPages::give_back() noexcept {
  if (mapped_ != nullptr) static_cast<void>(sys::plain_munmap(mapped_, mapped_bytes_));
  if (zeroes_ != nullptr) static_cast<void>(sys::plain_munmap(zeroes_, page_size()));
  if (descriptor() >= 0) ::close(descriptor());
}

PageRange GuardPages::chunk_range(std::size_t chunk) const noexcept {
  return {reinterpret_cast<std::byte*>(layout_.base() + (chunk << kChunkShift)),
          pages_for(kChunkBytes)};
}

bool GuardPages::count_mapping(int how_many) noexcept {
  if (mappings_.fetch_add(how_many, std::memory_order_relaxed) + how_many <= most_mappings_)
    return true;
  mappings_.fetch_sub(how_many, std::memory_order_relaxed);
  return false;
}

// Userfaultfd: the whole reservation is armed until a chunk is retired. An armed chunk has the
// rights of its neighbours, and the kernel joins their mappings.
bool GuardPages::arm(std::size_t chunk, int joined) noexcept {
  const PageRange range = chunk_range(chunk);
  if (mechanism_ == Mechanism::mprotect) return true;
  if (map(range.base, range.size_bytes(), kOpen, MAP_FIXED) == nullptr) return false;
  if (joined >= 0) mappings_.fetch_sub(2 - 2 * joined, std::memory_order_relaxed);
  static_cast<void>(sys::advise(range, MADV_NOHUGEPAGE));
  if (mechanism_ == Mechanism::markers) return sys::advise(range, MADV_GUARD_INSTALL) == 0;
  return sys::uffd_register(descriptor(), range, UFFDIO_REGISTER_MODE_MISSING) == 0;
}

bool GuardPages::retire(std::size_t chunk, int neighbours) noexcept {
  const PageRange range = chunk_range(chunk);
  const int more = 2 - 2 * neighbours;
  if (!count_mapping(more)) return false;
  if (map(range.base, range.size_bytes(), PROT_NONE, MAP_FIXED) != nullptr) return true;
  count_mapping(-more);
  return false;
}

bool GuardPages::reopen(int was) noexcept {
  // RACE two threads find it lost: the second one waits and tries the new one.
  while (reopening_.exchange(true, std::memory_order_acquire)) sys::yield();
  const bool done = descriptor() != was || use(open_uffd());
  reopening_.store(false, std::memory_order_release);
  return done;
}

bool GuardPages::can_deliver_to_thread() noexcept {
  int error = 0;
  const std::uint64_t features = sys::userfaultfd_features(error);
  if ((features & UFFD_FEATURE_MOVE) == 0) return false;  // 6.8
  return sys::open_userfaultfd(UFFD_FEATURE_POISON, true, true) ? true : false;
}

bool GuardPages::deliver_to_thread() noexcept {
  if (mechanism_ != Mechanism::userfaultfd) return false;
  while (reopening_.exchange(true, std::memory_order_acquire)) sys::yield();
  const int before = descriptor();
  to_thread_.store(true);
  const int opened = open_uffd();
  bool done = opened >= 0;
  if (done) {
    // RACE between these two calls no page is guarded: a wrong access then is not seen, and its
    // page stays open. A mapping cannot be registered with two. Other threads' calls fail
    // meanwhile, and wait for us.
    static_cast<void>(sys::uffd_unregister(before, small_range()));
    done = use(opened);
    if (done) {
      ::close(before);
    } else {
      static_cast<void>(use(before));
    }
  }
  if (!done) to_thread_.store(false);
  reopening_.store(false, std::memory_order_release);
  return done;
}

void GuardPages::zero(PageRange page) noexcept {
  std::size_t done = 0;
  if (sys::uffd_zero(descriptor(), page, done) != 0) wake(page);
}

void GuardPages::poison(PageRange page) noexcept {
  if (sys::uffd_poison(descriptor(), page) != 0) wake(page);
}

void GuardPages::wake(PageRange page) noexcept {
  // Refused: nobody waits any more.
  static_cast<void>(sys::uffd_wake(descriptor(), page));
}

bool GuardPages::fill(PageRange page, const void* contents) noexcept {
  for (int tries = 0; tries < 100; ++tries) {
    std::size_t done = 0;
    const int uffd = descriptor();
    const int error = sys::uffd_copy(uffd, page, contents, 0, done);
    if (error == EEXIST && to_thread_.load(std::memory_order_relaxed)) {
      // Poisoned by a wrong access, before it was anybody's.
      static_cast<void>(sys::advise(page, MADV_DONTNEED));
      continue;
    }
    if (error == 0 || error == EEXIST) return true;
    if (lost(error) ? !reopen(uffd) : error != EAGAIN) return false;
  }
  return false;
}

bool GuardPages::open(PageRange pages) noexcept {
  switch (mechanism_) {
    case Mechanism::markers:
      return sys::advise(pages, MADV_GUARD_REMOVE) == 0;
    case Mechanism::mprotect:
      if (!count_mapping(2)) return false;
      if (sys::change_protection(pages, kOpen) == 0) return true;
      count_mapping(-2);
      return false;
    default:
      break;
  }
  if (pages.length.count() == 1) return fill(pages, zeroes_);
  // Of several pages some may never be written: the zero page first, and a copy when they are.
  for (int tries = 0; tries < 100; ++tries) {
    std::size_t done = 0;
    const int uffd = descriptor();
    const int error = sys::uffd_zero(uffd, pages, done);
    if (error == 0 || error == EEXIST) return true;
    pages = {pages.base + done, pages_for(pages.size_bytes() - done)};
    if (lost(error) ? !reopen(uffd) : error != EAGAIN) return false;
  }
  return false;
}

void GuardPages::close(PageRange pages) noexcept {
  // Refused only where memory is short: the page stays open, and an access to it unseen.
  switch (mechanism_) {
    case Mechanism::markers:
      static_cast<void>(sys::advise(pages, MADV_GUARD_INSTALL));
      return;
    case Mechanism::mprotect:
      static_cast<void>(sys::change_protection(pages, PROT_NONE));
      count_mapping(-2);
      [[fallthrough]];
    default:
      static_cast<void>(sys::advise(pages, MADV_DONTNEED));
  }
}

bool GuardPages::move(PageRange from, PageRange to) noexcept {
  if (mechanism_ != Mechanism::userfaultfd) return false;
  std::size_t done = 0;
  // EBUSY: shared with a fork()ed child. EINVAL: before 6.8.
  return sys::uffd_move(descriptor(), to, from.base, 0, done) == 0;
}

bool GuardPages::open_large(PageRange pages) noexcept {
  if (!count_mapping(2)) return false;
  if (map(pages.base, pages.size_bytes(), kOpen, MAP_FIXED) != nullptr) return true;
  count_mapping(-2);
  return false;
}

void GuardPages::close_large(PageRange pages) noexcept {
  static_cast<void>(map(pages.base, pages.size_bytes(), PROT_NONE, MAP_FIXED));
  count_mapping(-2);
}

// Not every page is closed by the mechanism: large slots and chunks that are not armed are by their
// rights.
bool GuardPages::let_through(PageRange page) noexcept PAGETRAP_SIGNAL_SAFE {
  std::size_t done = 0;
  if (mechanism_ == Mechanism::userfaultfd) {
    if (to_thread_.load(std::memory_order_relaxed))
      static_cast<void>(sys::advise(page, MADV_DONTNEED));  // its poison
    const int error = sys::uffd_zero(uffd_.load(std::memory_order_relaxed), page, done);
    if (error != 0 && error != EEXIST && error != ENOENT) return false;
  } else if (mechanism_ == Mechanism::markers && sys::advise(page, MADV_GUARD_REMOVE) != 0) {
    return false;
  }
  return sys::change_protection(page, kOpen) == 0;
}

void GuardPages::close_again(PageRange page) noexcept {
  const auto offset = reinterpret_cast<std::uintptr_t>(page.base) - layout_.base();
  const bool large = offset >= layout_.small_bytes();
  if (!large && mechanism_ != Mechanism::mprotect) {
    close(page);
    return;
  }
  static_cast<void>(sys::change_protection(page, PROT_NONE));
  static_cast<void>(sys::advise(page, MADV_DONTNEED));
}

void GuardPages::in_child() noexcept {
  if (mechanism_ != Mechanism::userfaultfd) return;
  const int inherited = uffd_.exchange(-1);
  if (inherited >= 0) ::close(inherited);  // it acts on the parent
  if (use(open_uffd())) return;
  constexpr std::string_view kWords =
      "pagetrap: guard: userfaultfd cannot be had in a fork()ed child: it runs without guards\n";
  static_cast<void>(sys::write_all(STDERR_FILENO, kWords.data(), kWords.size()));
}

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
