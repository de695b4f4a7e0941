// Slots: the words of roots, or of weak references, together, for a flip to look at.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "gc/pile.hpp"

namespace pagetrap {
inline namespace v0 {
namespace gc {

/// Words that stay where they are. make() and end() are critical, and take a lock; for_each() takes
/// none, and is for when all threads are stopped, or when the lock is held.
class Slots {
 public:
  Outcome create(std::size_t capacity) { return words_.create(capacity); }

  void** make() {
    const std::lock_guard guard(lock);
    if (!free_.empty()) {
      void** const word = free_.back();
      free_.pop_back();
      --vacant_;
      return word;
    }
    // Room for all, so that end() cannot fail.
    free_.reserve(words_.size() + 1);
    if (!words_.push(nullptr)) return nullptr;
    return words_.place(words_.size() - 1);
  }
  void end(void** word) noexcept {
    const std::lock_guard guard(lock);
    *word = nullptr;
    free_.push_back(word);
    ++vacant_;
  }
  template <class Visit>
  void for_each(Visit visit) noexcept {
    for (std::size_t i = 0; i < words_.size(); ++i) visit(*words_.place(i));
  }
  [[nodiscard]] std::size_t in_use() const noexcept { return words_.size() - vacant_; }

  std::mutex lock;

 private:
  Pile<void*> words_;
  std::vector<void**> free_;
  std::size_t vacant_ = 0;
};

}  // namespace gc
}  // namespace v0
}  // namespace pagetrap
