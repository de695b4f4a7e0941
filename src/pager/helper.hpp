// Helper: the pager's thread. It fills ahead of sequential readers and lets sources look at pages
// that will be victims soon. It never evicts what others fill: taking page tables apart beside the
// program's threads costs both more than it saves (measured).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <thread>

#include <pagetrap/core/result.hpp>

#include "pager/spin_lock.hpp"

namespace pagetrap {
inline namespace v0 {
namespace pager {

class Engine;
class PagedRegion;

class Helper {
 public:
  explicit Helper(Engine& engine) noexcept : engine_(engine) {}
  ~Helper() { stop(); }
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  Result<Done> start();
  void stop() noexcept;
  [[nodiscard]] bool running() const noexcept PAGETRAP_SIGNAL_SAFE {
    return running_.load(std::memory_order_relaxed);
  }

  /// Fill [first, first + count) of `region` soon. False: too much is asked already, or no thread.
  bool ask(PagedRegion& region, std::uint64_t first, std::size_t count) noexcept
      PAGETRAP_SIGNAL_SAFE;
  /// `gone` pages have left whose source prepares.
  void look_at_victims(std::size_t gone) noexcept PAGETRAP_SIGNAL_SAFE;
  /// Nothing of `region` that was asked before is asked or under way when this returns: what has
  /// not been filled is given up.
  void forget(PagedRegion& region) noexcept;
  /// Where the run ends that is being filled and has page `index` of `region` in it; 0: none has.
  [[nodiscard]] std::uint64_t end_of_run(const PagedRegion& region,
                                         std::uint64_t index) const noexcept PAGETRAP_SIGNAL_SAFE;
  /// What is under way for `region` has ended.
  void settle(const PagedRegion& region) const noexcept;
  /// The thread does not exist in a fork()ed child.
  void in_child() noexcept;

 private:
  struct Request {
    PagedRegion* region = nullptr;
    std::uint64_t first = 0;
    std::size_t count = 0;
  };
  void serve() noexcept;
  bool fill_next() noexcept;
  void prepare_some() noexcept;
  [[nodiscard]] bool is_rung_soon(std::uint32_t rung) const noexcept;
  void wake() noexcept PAGETRAP_SIGNAL_SAFE;

  static constexpr std::size_t kRequests = 16;
  static constexpr std::size_t kLookAhead = 256;  // frames before the end of the queue

  Engine& engine_;
  std::thread thread_;
  std::atomic<bool> running_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint32_t> bell_{0};      // futex: rung when there is work
  std::atomic<std::uint32_t> sleeping_{0};  // whether ringing takes a system call
  std::atomic<std::size_t> gone_{0};
  std::atomic<bool> victims_left_{false};
  unsigned looks_before_sleep_ = 0;  // the thread's own
  std::atomic<PagedRegion*> current_{nullptr};
  std::atomic<std::uint64_t> run_first_{0};  // of current_, while it is filled
  std::atomic<std::uint64_t> run_end_{0};
  std::atomic<bool> given_up_{false};  // what is under way
  SpinLock lock_;
  std::array<Request, kRequests> requests_;  // GUARDED_BY(lock_), a ring
  std::size_t first_ = 0;                    // GUARDED_BY(lock_)
  std::size_t count_ = 0;                    // GUARDED_BY(lock_)
};

}  // namespace pager
}  // namespace v0
}  // namespace pagetrap
