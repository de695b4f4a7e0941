// Window: one thread's own right to protected private memory, by protection key. Stands in for MAP2
// where memory is private and cannot be mapped twice.
#pragma once

#include <cstdint>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>
#include <pagetrap/vm/region.hpp>

namespace pagetrap {
inline namespace v0 {

/// While it lives, the thread that opened it reads and writes a frozen or protected region of the
/// pkey backend (or a freezable region) freely; other threads still fault. Must be closed by the
/// same thread, before the Region ends. Windows nest. Other kinds of protection (mprotect,
/// userfaultfd) are not opened by it.
/// Errors  ENOTSUP: the region has no protection key. Cost  two register writes, about 25 ns.
/// Signals not inside signal handlers (fault handlers hold every region's key anyway).
class PAGETRAP_API Window {
 public:
  static Result<Window> open(const Region& region) noexcept;
  ~Window();
  Window(Window&& other) noexcept;
  Window& operator=(Window&&) = delete;
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;

 private:
  explicit Window(RegionState* state) noexcept : state_(state) {}
  RegionState* state_ = nullptr;
};

}  // namespace v0
}  // namespace pagetrap
