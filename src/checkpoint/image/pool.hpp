// Pool: things that a thread needs while it works on a block, kept for the next one.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace pagetrap {
inline namespace v0 {
namespace checkpoint {

// WHY not thread_local: the threads are the program's, and would keep megabytes after the image is
// long finished.
template <class T>
class Pool {
 public:
  /// One T, given back when this goes.
  class Lease {
   public:
    Lease(Pool& pool, std::unique_ptr<T> thing) : pool_(&pool), thing_(std::move(thing)) {}
    ~Lease() {
      const std::lock_guard lock(pool_->mutex_);
      // There is room: taking it reserved that.
      pool_->idle_.push_back(std::move(thing_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    T* operator->() const noexcept { return thing_.get(); }
    T& operator*() const noexcept { return *thing_; }

   private:
    Pool* pool_;
    std::unique_ptr<T> thing_;
  };

  Lease take() {
    std::unique_ptr<T> thing;
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        thing = std::move(idle_.back());
        idle_.pop_back();
      } else {
        idle_.reserve(++made_);
      }
    }
    if (thing == nullptr) thing = std::make_unique<T>();
    return Lease(*this, std::move(thing));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> idle_;
  std::size_t made_ = 0;
};

}  // namespace checkpoint
}  // namespace v0
}  // namespace pagetrap
