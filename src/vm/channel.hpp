// Channel: a userfaultfd shared by the regions that need the same features, and the threads that
// read it. One descriptor for many regions: 100,000 regions must not need 100,000 descriptors, and
// measured fault rates do not depend on it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include <pagetrap/core/result.hpp>

#include "sys/fd.hpp"
#include "sys/mapping.hpp"
#include "sys/signal_safe_calls.hpp"
#include "sys/thread_state.hpp"
#include "sys/userfaultfd.hpp"
#include "vm/backends/operations.hpp"

namespace pagetrap {
inline namespace v0 {

class Channel {
 public:
  struct Needs {
    std::uint64_t features = 0;    // UFFD_FEATURE_ bits
    bool kernel_mode = false;      // must also see faults of system calls
    unsigned handler_threads = 0;  // 0: nobody reads (SIGBUS or WP_ASYNC delivery)
    bool busy_poll = false;
    bool own = false;  // not shared: the region moves its page tables (lift)
    friend bool operator==(const Needs&, const Needs&) = default;
  };

  /// A channel for `needs`: an existing one, or a new one with its threads running.
  static Result<std::shared_ptr<Channel>> get(const Needs& needs);

  explicit Channel(const Needs& needs) : needs_(needs) {}
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  [[nodiscard]] int uffd() const noexcept { return uffd_.descriptor.get(); }
  [[nodiscard]] std::uint64_t features() const noexcept { return uffd_.features; }
  /// Whether the calling thread is one of its handler threads: it may not wait for them.
  [[nodiscard]] bool served_here() const noexcept PAGETRAP_SIGNAL_SAFE {
    return sys::this_thread().served_channel == this;
  }
  /// After EAGAIN, which the kernel says while a remap event is unread: whether to try again. Not
  /// in a handler thread: it may be the one that has to read the event. Its fault is raised again.
  [[nodiscard]] bool try_again(sys::Patience& patience) const noexcept PAGETRAP_SIGNAL_SAFE {
    if (!served_here()) return patience.wait();
    sys::this_thread().found_tables_moving = true;
    return false;
  }
  [[nodiscard]] bool kernel_mode() const noexcept { return uffd_.kernel_mode; }

  /// In a fork()ed child: the inherited descriptor still acts on the PARENT's pages (seen: a child
  /// un-protected a page of its parent). Replaces it, under the same number, by one of the child's
  /// own, and starts new threads.
  static Outcome replace_all_in_child() noexcept;
  static void lock_all() noexcept;
  static void unlock_all() noexcept;

 private:
  Outcome open();
  [[nodiscard]] Result<sys::Userfaultfd> open_descriptor() const;
  Outcome register_sentinels() noexcept;
  Outcome start_threads();
  void stop_threads() noexcept;
  void stop_one(std::byte* sentinel) noexcept;
  void serve() noexcept;
  Outcome replace_in_child() noexcept;

  const Needs needs_;
  sys::Userfaultfd uffd_;
  sys::Mapping sentinels_;  // a page for each handler thread: touching it stops one
  std::vector<std::thread> threads_;
};

}  // namespace v0
}  // namespace pagetrap
