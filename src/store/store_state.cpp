#include "store/store_state.hpp"

#include <algorithm>
#include <cerrno>
#include <new>

#include "store/detect/loading.hpp"
#include "store/resource.hpp"
#include "sys/signal_safe_calls.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

StoreState::~StoreState() {
  stop_checkpointer();
  if (!failed(check_process())) return;
  // The threads are the parent's, and what they wait for would wait for them.
  if (checkpointer_.joinable()) checkpointer_.detach();
  static_cast<void>(wish_.release());
  static_cast<void>(log_.release());
}

Store StoreState::as_store(std::unique_ptr<StoreState> state) noexcept {
  return Store(std::move(state));
}

void StoreState::abandon_file() noexcept {
  stop_checkpointer();
  const std::lock_guard guard(access_);
  closed_ = true;
}

PageRange StoreState::range() const noexcept {
  return {base_, Pages{block_.reserve_bytes / kPageBytes}};
}

std::size_t StoreState::used_bytes() const noexcept {
  return heap_.header().used_pages * kPageBytes;
}

std::pmr::memory_resource* StoreState::resource() const noexcept {
  return &std::launder(reinterpret_cast<OwnPage*>(own_.data()))->resource;
}

TypedMemory* StoreState::typed_memory() const noexcept {
  return &std::launder(reinterpret_cast<OwnPage*>(own_.data()))->typed;
}

// Pages that are used for the first time can be touched, or they are not handed out.
bool StoreState::grow(void* self, std::size_t used) noexcept {
  auto& store = *static_cast<StoreState*>(self);
  if (used <= store.grown_pages_) return true;
  try {
    store.refusal_ = store.detector_->grow(used);
  } catch (const std::bad_alloc&) {
    store.refusal_ = {"growing a store", ENOMEM};
  }
  if (failed(store.refusal_)) return false;
  store.grown_pages_ = used;
  return true;
}

// A bad_alloc like any other when the reserve is used up. Outside a transaction nothing may change.
void* StoreState::allocate(std::size_t size, std::size_t alignment, const TypeMap* type) {
  if (const Outcome outcome = check_process(); failed(outcome)) throw SystemError(outcome);
  if (!in_transaction())
    throw SystemError(Error{"allocation in a store", EPERM, {}, "outside a transaction"});
  refusal_ = kDone;
  void* const block = type != nullptr ? heap_.allocate_typed(size, alignment, *type)
                                      : heap_.allocate(size, alignment);
  if (failed(refusal_)) throw SystemError(refusal_);
  if (block == nullptr) throw std::bad_alloc();
  // With a barrier, what is new need not be announced by the program.
  if (options_.detect == Detect::barrier)
    if (const Outcome outcome = declare(block, size); failed(outcome)) throw SystemError(outcome);
  return block;
}

void StoreState::deallocate(void* block, std::size_t size, std::size_t alignment,
                            bool typed) noexcept {
  // Outside a transaction it would become part of another thread's: the block stays as it is.
  if (!in_transaction() || failed(check_process())) {
    report_stray(block);
    return;
  }
  // Taken back, it would be handed out as memory of the store. Like std::free() of such a pointer,
  // this is a fault of the program's; unlike it, it harms nothing that is stored.
  const std::size_t least = std::max<std::size_t>(size, 1);
  if (size > range().size_bytes() || !range().contains(pages_covering(block, least))) {
    report_foreign(block);
    return;
  }
  if (typed) return heap_.deallocate_typed(block, size, alignment);
  heap_.deallocate(block, size, alignment);
}

std::shared_lock<std::shared_mutex> StoreState::read_unless_writing() {
  return in_transaction() ? std::shared_lock<std::shared_mutex>() : std::shared_lock(access_);
}

Outcome StoreState::checkpoint() {
  {
    const auto guard = read_unless_writing();
    if (const Outcome outcome = check_usable(); failed(outcome)) return outcome;
  }
  return checkpoint_->run(commits_);
}

Outcome StoreState::sync() {
  if (const Outcome outcome = check_process(); failed(outcome)) return outcome;
  if (closed_) return {"sync of a store", EBADF, {}, "it is closed"};
  return wait(log_->appended());
}

Outcome StoreState::close() {
  if (process_ != process_generation() || closed_) return kDone;
  if (in_transaction()) return {"Store::close", EDEADLK, {}, "inside a transaction"};
  stop_checkpointer();
  const std::lock_guard guard(access_);
  closed_ = true;
  // What is durable is in the log, and the next open() finds it there.
  if (failed(broken_)) return broken_;
  if (was_clean_ && !epoch_begun_) return kDone;
  return checkpoint_->close(commits_);
}

StoreStatistics StoreState::statistics() {
  if (failed(check_process())) return {};
  const auto guard = read_unless_writing();
  StoreStatistics now = statistics_;
  const LogStatistics log = log_->statistics();
  now.log_bytes = log.bytes;
  now.log_flushes = log.flushes;
  const CheckpointStatistics checkpoints = checkpoint_->statistics();
  now.checkpoints = checkpoints.checkpoints;
  now.checkpoint_pages = checkpoints.pages;
  now.checkpoint_bytes = checkpoints.bytes;
  now.image_bytes = committed_->image_pages() * kPageBytes;
  now.used_bytes = used_bytes();
  now.allocated_bytes = heap_.header().allocated_bytes;
  now.untyped_bytes = untyped_bytes(heap_.header());
  now.relocated = relocated();
  now.detector = detector_->name();
  now.durable_by = disk_->durable_by();
  return now;
}

void StoreState::start_checkpointer() {
  checkpointer_ = std::thread([this] {
    std::unique_lock guard(wish_lock_);
    for (;;) {
      wish_->wait(guard, [this] { return wanted_ || stopping_; });
      if (stopping_) return;
      wanted_ = false;
      guard.unlock();
      // An error is told to whoever needs the room in the log, when it tries for itself.
      static_cast<void>(checkpoint_->run(commits_));
      guard.lock();
    }
  });
}

void StoreState::stop_checkpointer() noexcept {
  if (process_ != process_generation()) return;
  {
    const std::lock_guard guard(wish_lock_);
    stopping_ = true;
  }
  wish_->notify_one();
  if (checkpointer_.joinable()) checkpointer_.join();
}

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
