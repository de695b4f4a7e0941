#include "memory/keeper.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <new>

#include <pagetrap/core/signal_safe_text.hpp>
#include <pagetrap/vm/backend.hpp>
#include <pagetrap/vm/freeze.hpp>

#include "memory/buffers.hpp"
#include "memory/forks.hpp"
#include "memory/real_calls.hpp"
#include "sys/company.hpp"
#include "sys/fd.hpp"
#include "sys/memory_calls.hpp"
#include "sys/pagemap.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap::preload {

constinit thread_local bool own_work = false;
constinit Keeper* keeper = nullptr;

namespace {

constexpr std::size_t kAddresses = 256_GiB;
constexpr std::size_t kUnlimited = std::size_t{1} << 46;
constexpr std::uint64_t kLook = 4'000'000;      // ns between looks while the budget is near
constexpr std::uint64_t kLookFar = 20'000'000;  // ns while it is not

void say(std::string_view what, const Error& error) noexcept {
  SignalSafeText line;
  line.text("pagetrap: memory: ").text(what).text(": ").text(error.operation);
  line.text(" (errno ").decimal(error.number).text(") ").text(error.remedy).text("\n");
  static_cast<void>(sys::write_all(STDERR_FILENO, line.view().data(), line.view().size()));
}

}  // namespace

void Keeper::begin(const Settings& settings) noexcept {
  const OwnWork own;
  settings_ = settings;
  process_ = ::getpid();
  if (settings_.budget_bytes == 0) return;
  if (!territory.reserve(kAddresses, std::max(4 * settings_.budget_bytes, 64_MiB))) {
    say("no budget is kept", Error{"mmap of addresses", ENOMEM, {}, "RLIMIT_AS is too small"});
    return;
  }
  restrictions_ = new (std::nothrow) std::vector<Restricted>;
  if (restrictions_ == nullptr) return;
  // Handlers of fork() must be in place before any of the program's: in a child those of the
  // program may touch pages that are absent.
  if (const auto done = prepare_forks(); !done) {
    say("no budget is kept", done.error());
    return;
  }
  keeper = this;
  on_.store(true);
}

void Keeper::mapped() noexcept {
  if (!on_.load(std::memory_order_relaxed) || watching_.load(std::memory_order_relaxed) ||
      active() || territory.taken() < settings_.budget_bytes / 8 * 7)
    return;
  if (watching_.exchange(true)) return;
  const int saved = errno;
  const OwnWork own;
  pthread_t thread{};
  sigset_t all;
  sigset_t old;
  ::sigfillset(&all);
  for (const int taken : {SIGSEGV, SIGBUS, freeze_signal()}) ::sigdelset(&all, taken);
  real::pthread_sigmask(SIG_SETMASK, &all, &old);
  // EAGAIN: tried again at the next mapping.
  if (real::pthread_create(&thread, nullptr, watch, this) == 0) {
    ::pthread_detach(thread);
  } else {
    watching_.store(false);
  }
  real::pthread_sigmask(SIG_SETMASK, &old, nullptr);
  errno = saved;
}

void* Keeper::watch(void* self) noexcept {
  const sys::OwnThread own;
  own_work = true;
  ::pthread_setname_np(::pthread_self(), "pagetrap-memory");
  static_cast<Keeper*>(self)->watch();
  return nullptr;
}

// Pages of the program that are there. What was read but never written counts too: it would be
// compressed to nothing, but it is in a page table.
std::size_t Keeper::resident_bytes() const noexcept {
  const sys::Descriptor pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  std::vector<PageRange> found;
  if (!pagemap.valid() || !sys::scan_present(pagemap.get(), territory.used_part(), found)) return 0;
  std::size_t sum = 0;
  for (const PageRange& run : found) sum += run.size_bytes();
  return sum;
}

void Keeper::watch() noexcept {
  std::size_t look_again_at = 0;  // bytes of the process
  bool warned = false;
  const std::size_t enough = settings_.budget_bytes - settings_.budget_bytes / 32;
  while (on_.load()) {
    const std::uint32_t seen = bell_.load();
    if (report_wanted_.exchange(false)) report(false);
    if (!active()) {
      const std::size_t process = sys::resident_pages() << page_shift();
      if (process >= enough && process >= look_again_at) {
        const std::size_t ours = resident_bytes();
        look_again_at = process + (ours < enough ? enough - ours : 0);
        if (ours >= enough && !prepared() && !prepare()) return;
        if (ours >= enough && !activate() && !warned) {
          warned = true;
          say("the budget cannot be kept yet", adoption_);
        }
        if (warned) look_again_at = process + 1_MiB;
      }
      sys::futex_wait(bell_, seen, process + process / 4 >= enough ? kLook : kLookFar);
    } else {
      sys::futex_wait(bell_, seen, 0);
    }
  }
}

void Keeper::give_up(const Error& error) noexcept {
  say("no budget is kept", error);
  on_.store(false);
}

// Everything that takes a lock of the C library's or starts a thread: not while others are held.
bool Keeper::prepare() noexcept {
  try {
    const Capabilities by_threads = capabilities(BackendId::uffd_thread, Backing::anonymous);
    const Capabilities by_signals = capabilities(BackendId::uffd_inline, Backing::anonymous);
    const bool threads = settings_.delivery == Delivery::threads ||
                         (settings_.delivery == Delivery::automatic && by_threads.kernel_accesses);
    if (threads ? !by_threads.kernel_accesses : !by_signals.per_page) {
      give_up(Error{"userfaultfd", EPERM, {}, "`pagetrap doctor` tells what is missing"});
      return false;
    }
    pager::PagerOptions options;
    options.budget_bytes = kUnlimited;
    options.handler_threads = threads ? 2 : 1;
    pager_ = pager::Pager::create(options).value().release();
    source_ = compress::CompressedSource::create(territory.range().size_bytes()).value().release();
    compress::CompressedSourceOptions small;
    small.learn_from_pages = 0;
    small.store.workspaces = 1;
    first_source_ =
        compress::CompressedSource::create(page_size(), std::move(small)).value().release();
    pager::RegionOptions region;
    region.name = "pagetrap first";
    region.kernel_accesses = threads;
    region.backend = threads ? BackendId::uffd_thread : BackendId::uffd_inline;
    first_region_ = new pager::Region(
        pager::Region::create(*pager_, page_size(), *first_source_, region).value());
    region_ = new pager::Region;
    by_signals_.store(!threads);
    prepared_.store(true);
    return true;
  } catch (const SystemError& error) {
    give_up(error.error());
  } catch (const std::exception&) {
    give_up(Error{"operator new", ENOMEM});
  }
  return false;
}

// All other threads are held, wherever they are.
void Keeper::adopt(void* self) {
  Keeper& mine = *static_cast<Keeper*>(self);
  pager::RegionOptions options;
  options.name = "pagetrap memory";
  options.kernel_accesses = !mine.by_signals_.load();
  options.backend = mine.by_signals_.load() ? BackendId::uffd_inline : BackendId::uffd_thread;
  if (!mine.settings_.total) options.limit_bytes = kUnlimited;
  auto adopted = pager::Region::adopt(*mine.pager_, mine.territory.range(), *mine.source_, options);
  if (!adopted) {
    mine.adoption_ = adopted.error();
    return;
  }
  *mine.region_ = std::move(*adopted);
  for (Restricted& restricted : *mine.restrictions_) {
    // What cannot be pinned is copied out instead of moved, which its rights allow.
    if (auto pin = mine.region_->pin(restricted.range, Access::read))
      restricted.pin = std::move(*pin);
  }
  if (mine.by_signals_.load()) hold_calls_under_way(mine);
  mine.adoption_ = {};
  mine.active_.store(true, std::memory_order_release);
}

bool Keeper::activate() noexcept {
  // Nobody may be about to change them while being held. Locks in the order of fork().
  const std::lock_guard restrictions(restrictions_lock_);
  adoption_ = Error{"stopping all threads", ETIMEDOUT, {}, "one blocks the signal for it"};
  set_freeze_timeout(std::chrono::milliseconds(500));
  const auto work = [](void*, void*) noexcept PAGETRAP_SIGNAL_SAFE {};
  const auto done = for_every_other_thread(work, this, adopt);
  set_freeze_timeout(std::chrono::milliseconds(1000));
  if (!done) adoption_ = done.error();
  if (!active()) return false;
  const auto shrunk = settings_.total ? pager_->set_budget(settings_.budget_bytes)
                                      : region_->set_limit(settings_.budget_bytes);
  if (!shrunk) say("more is pinned than the budget allows", shrunk.error());
  return true;
}

// --- what the program does with its mappings ----------------------------------------------------

int Keeper::drop(PageRange range) noexcept {
  if (range.empty()) return 0;
  if (!active()) {
    // RACE it becomes active before the call: the pager finds such pages gone, and gives zeroes.
    return sys::plain_madvise(range.base, range.size_bytes(), MADV_DONTNEED) == 0 ? 0 : errno;
  }
  const auto done = region_->discard(range);
  if (done) return 0;
  if (done.error().number != EBUSY) return done.error().number;
  std::memset(range.base, 0, range.size_bytes());  // held by a system call that is under way
  return 0;
}

int Keeper::restrict_to(PageRange range, int prot) noexcept {
  const OwnWork own;
  const std::lock_guard guard(restrictions_lock_);
  Restricted restricted{range, {}};
  if (active()) {
    if (auto pin = region_->pin(range, Access::read)) restricted.pin = std::move(*pin);
  }
  if (sys::plain_mprotect(range.base, range.size_bytes(), prot) != 0) return errno;
  try {
    restrictions_->push_back(std::move(restricted));
  } catch (const std::bad_alloc&) {
    return ENOMEM;
  }
  return 0;
}

int Keeper::lift_restrictions(PageRange range) noexcept {
  const OwnWork own;
  const std::lock_guard guard(restrictions_lock_);
  if (restrictions_->empty()) return 0;
  int error = 0;
  for (std::size_t i = 0; i < restrictions_->size();) {
    const PageRange other = (*restrictions_)[i].range;
    if (other.base >= range.end() || other.end() <= range.base) {
      ++i;
      continue;
    }
    std::byte* const from = std::max(other.base, range.base);
    std::byte* const to = std::min(other.end(), range.end());
    if (sys::plain_mprotect(from, static_cast<std::size_t>(to - from), PROT_READ | PROT_WRITE) != 0)
      error = errno;
    // Of one that is lifted in part the rest stays restricted and is pinned no more: it is copied
    // out, not moved, should it be a victim.
    restrictions_->erase(restrictions_->begin() + static_cast<std::ptrdiff_t>(i));
  }
  return error;
}

pager::Pin Keeper::hold(const void* address, std::size_t length) noexcept {
  if (length == 0 || !territory.touches(address, length)) return {};
  PageRange wanted = pages_covering(address, length);
  const PageRange ours = territory.range();
  std::byte* const from = std::max(wanted.base, ours.base);
  std::byte* const to = std::min(wanted.end(), ours.end());
  wanted = {from, Pages{static_cast<std::size_t>(to - from) >> page_shift()}};
  const int saved = errno;
  auto pin = region_->pin(wanted);
  errno = saved;
  if (pin) return std::move(*pin);
  touch(wanted);
  return {};
}

void Keeper::in_child() noexcept {
  watching_.store(false);
  process_ = ::getpid();
}

}  // namespace pagetrap::preload
