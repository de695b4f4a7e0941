// Two pairs of handlers. Those registered first run innermost before fork() and first in a child:
//
//   ours, inner     heaps locked; in a child they are free before anybody allocates
//   ground floor    regions armed again in a child
//   pager's gate    nobody is inside a pager
//   ours, outer     territory locked; threads that are started meanwhile are ours
//   the program's
#include "memory/forks.hpp"

#include <pthread.h>

#include <pagetrap/compress/compressed_source.hpp>
#include <pagetrap/pager/pager.hpp>

#include "memory/keeper.hpp"
#include "memory/own_heap.hpp"

namespace pagetrap::preload {

namespace {

constinit thread_local bool own_before_fork = false;

void lock_heaps() noexcept {
  library_heap.lock();
  engine_heap.lock();
}

void unlock_heaps() noexcept {
  engine_heap.unlock();
  library_heap.unlock();
}

}  // namespace

void lock_for_fork() noexcept {
  own_before_fork = own_work;
  own_work = true;
  if (keeper == nullptr) return;
  keeper->restrictions_lock_.lock();
  keeper->territory.lock();
}

void unlock_after_fork() noexcept {
  if (keeper != nullptr) {
    keeper->territory.unlock();
    keeper->restrictions_lock_.unlock();
  }
  own_work = own_before_fork;
}

void unlock_in_child() noexcept {
  if (keeper != nullptr) keeper->in_child();
  unlock_after_fork();
}

Result<Done> prepare_forks() {
  if (const int error = ::pthread_atfork(lock_heaps, unlock_heaps, unlock_heaps))
    return Error{"pthread_atfork", error};
  // A region without protection, which ends at once, makes the others register theirs.
  pager::PagerOptions options;
  options.budget_bytes = 16 * page_size();
  options.helper_thread = false;
  auto pager = pager::Pager::create(options);
  if (!pager) return pager.error();
  auto nothing = pager::computed([](std::uint64_t, std::byte*) noexcept {});
  pager::RegionOptions null;
  null.backend = BackendId::null;
  const auto region = pager::Region::create(**pager, page_size(), nothing, null);
  if (!region) return region.error();
  if (const int error = ::pthread_atfork(lock_for_fork, unlock_after_fork, unlock_in_child))
    return Error{"pthread_atfork", error};
  return Done{};
}

}  // namespace pagetrap::preload
