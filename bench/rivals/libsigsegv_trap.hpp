// libsigsegv 2.x doing the same as MprotectTrap, through its own dispatcher.
#pragma once

#include <cstddef>
#include <cstdint>

#include "harness/mapping.hpp"
#include "rivals/handler_swap.hpp"

namespace pagetrap::bench::rivals {

/// The library, opened by name in the measuring process.
///
/// WHY dlopen and not a link: it is under the GNU GPL; a program that links it would be, too. This
/// way the command needs it neither to be built nor to run, and is not derived from it.
class Libsigsegv {
 public:
  using AreaHandler = int (*)(void* address, void* argument);
  struct Dispatcher {  // sigsegv_dispatcher in sigsegv.h
    void* tree;
  };

  /// False if it is not installed.
  bool open() noexcept;

  // As in sigsegv.h.
  int (*install_handler)(int (*handler)(void* address, int serious)) = nullptr;
  void (*init)(Dispatcher*) = nullptr;
  void* (*register_area)(Dispatcher*, void* address, std::size_t size, AreaHandler,
                         void* argument) = nullptr;
  int (*dispatch)(Dispatcher*, void* address) = nullptr;
};

/// One at a time in a process.
class LibsigsegvTrap {
 public:
  static constexpr const char* kName = "libsigsegv";

  LibsigsegvTrap(const Libsigsegv& library, std::size_t size_bytes);
  [[nodiscard]] std::byte* page(std::size_t index) const noexcept { return memory_.page(index); }
  bool protect(std::byte* from, std::size_t size_bytes) noexcept;
  [[nodiscard]] static std::uint64_t faults() noexcept;

  /// Its handler replaces whatever was there; this puts that back.
  class Armed {
   public:
    Armed() noexcept;
    ~Armed();
    Armed(const Armed&) = delete;
    Armed& operator=(const Armed&) = delete;

   private:
    SignalAction before_{};
  };

 private:
  Mapping memory_;
};

}  // namespace pagetrap::bench::rivals
