// Heap: objects that end (or begin) at pages which nobody may touch, and whose addresses are not
// used again: overflows and uses after free fault at the access. Start reading here.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory_resource>

#include <pagetrap/core/config.hpp>
#include <pagetrap/core/result.hpp>

namespace pagetrap {
inline namespace v0 {
namespace guard {

class Engine;  // src/guard/engine/engine.hpp

/// Where in its page an object lies.
enum class Side : std::uint8_t {
  right,   // its end at a guard: overflows fault, underflows within the page are found at free
  left,    // its start at a guard
  random,  // each object one of the two
};

/// Who allocated an object; another family may not free it.
enum class Family : std::uint8_t { malloc, new_single, new_array, resource };

/// Who has a page of memory to itself.
enum class Strength : std::uint8_t {
  page,   // each object: overflows and uses after free fault
  alias,  // no small object, but each has a page of addresses: uses after free fault, overflows of
          // up to 2 KiB are found by canaries if at all; takes the memory that malloc takes
};

/// When the page of addresses of a freed object goes, under Strength::alias.
enum class Revocation : std::uint8_t {
  at_once,
  batched,  // 64 at a time for each thread; their memory is not used again before
  lazy,     // 512 at a time, when all have died; a use after free before that is not seen
};

/// How unused pages are made to fault.
enum class Mechanism : std::uint8_t {
  best,         // the first of these that the kernel has
  userfaultfd,  // missing pages (5.11); a freed object's page moves to the next address (6.8)
  markers,      // MADV_GUARD_INSTALL (6.13)
  mprotect,     // PROT_NONE: two kernel mappings for each object, so few objects
};

/// Where allocations go that the engine does not serve. As the C library's functions.
struct Fallback {
  void* (*allocate)(std::size_t alignment, std::size_t size) = nullptr;
  void (*release)(void* block) = nullptr;
  std::size_t (*usable_size)(void* block) = nullptr;
};

struct HeapOptions {
  Strength strength = Strength::page;
  Revocation revocation = Revocation::at_once;
  Mechanism mechanism = Mechanism::best;
  Side side = Side::right;
  // An object's alignment is the lowest set bit of its size, at least this and at most 16, unless
  // the caller asks for more. 1 makes odd sizes byte-precise, and breaks programs that keep flags
  // in pointers.
  std::size_t least_alignment = 2;
  // Known bytes beside an object, checked when it is freed.
  std::size_t canary_bytes = 128;
  // Of addresses; halved until the kernel grants it.
  std::size_t reservation_bytes = std::size_t{40} << 40;
  // Guard one allocation in so many and leave the others to the fallback. 1: all.
  std::uint32_t one_in = 1;
  // Stop handing out new addresses beyond so many objects of one page, and use the oldest dead ones
  // again. 0: as many as the reservation has.
  std::size_t quarantine_slots = 0;
  // Under Strength::page: beyond so many bytes of pages, those of blocks of a page at most that
  // were opened longest ago are packed densely, and come back when they are touched. 0: never.
  // Needs userfaultfd for faults in system calls (root, or /dev/userfaultfd) and Linux 6.8; where
  // that is not to be had, statistics() says 0 and all stay.
  std::size_t hot_bytes = 0;
  bool record_stacks = true;
  Fallback fallback{};     // without functions: an allocation that cannot be guarded fails
  std::uint64_t seed = 0;  // of random choices; 0: the kernel's
};

struct HeapStatistics {
  std::uint64_t live_objects = 0;         // guarded ones
  std::uint64_t guarded_allocations = 0;  // ever
  std::uint64_t fallback_allocations = 0;
  const void* reserved = nullptr;  // addresses: all of the heap's objects are in there
  std::size_t reserved_bytes = 0;
  Mechanism mechanism = Mechanism::best;  // the one in use
  std::size_t hot_bytes = 0;              // as asked for, or 0: not to be had here
  std::uint64_t packed = 0;               // objects, ever
  std::uint64_t brought_back = 0;
};

/// Owns its addresses; move-only. Misuse (a second free, a foreign pointer, a damaged canary) is
/// reported as problem.hpp says, like the accesses that fault.
///
/// Threads  any, all functions. No lock is taken but when a thread first allocates, and every 2 MiB
///          of addresses.
/// Signals  not safe, as malloc.
/// fork()   The child has a copy of the objects and guards of its own.
class PAGETRAP_API Heap {
 public:
  Heap() noexcept = default;
  ~Heap();
  Heap(Heap&& other) noexcept;
  Heap& operator=(Heap&& other) noexcept;
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  /// Installs the fault handler of the room (problem.hpp) too.
  /// Errors  ENOMEM: not even 1 GiB of addresses; ENOTSUP: the mechanism asked for is not there;
  ///         EMFILE: there are four heaps already.
  static Result<Heap> create(const HeapOptions& options = {});
  /// The heap of a preload shim: in place, never ended, nothing allocated, before constructors have
  /// run. `place` has kEngineBytes, aligned to 64.
  static Result<Engine*> create_at(void* place, const HeapOptions& options) noexcept;
  static constexpr std::size_t kEngineBytes = 8192;

  [[nodiscard]] void* allocate(std::size_t size, std::size_t alignment = 1,
                               Family family = Family::malloc) noexcept;
  [[nodiscard]] void* allocate_zeroed(std::size_t size) noexcept;
  /// As realloc(3); always moves, so that old pointers trap.
  [[nodiscard]] void* reallocate(void* block, std::size_t size) noexcept;
  void release(void* block, Family family = Family::malloc) noexcept;
  /// Exactly what was asked for: what lies beyond is not the program's.
  [[nodiscard]] std::size_t usable_size(const void* block) const noexcept;
  [[nodiscard]] bool owns(const void* address) const noexcept;
  [[nodiscard]] HeapStatistics statistics() const noexcept;
  /// Borrowed; ends with the heap. Throws std::bad_alloc.
  [[nodiscard]] std::pmr::memory_resource* resource() noexcept;
  [[nodiscard]] Engine* engine() const noexcept { return engine_; }

 private:
  explicit Heap(Engine* engine) noexcept : engine_(engine) {}
  void end() noexcept;
  Engine* engine_ = nullptr;
};

/// The same operations on the heap of a shim.
namespace engine {
PAGETRAP_API void* allocate(Engine& engine, std::size_t size, std::size_t alignment, Family family,
                            const void* frame) noexcept;
PAGETRAP_API void* allocate_zeroed(Engine& engine, std::size_t size, const void* frame) noexcept;
PAGETRAP_API void* reallocate(Engine& engine, void* block, std::size_t size,
                              const void* frame) noexcept;
/// `size`: what a sized delete says; kUnknownSize: it does not.
PAGETRAP_API void release(Engine& engine, void* block, Family family, std::size_t size,
                          const void* frame) noexcept;
PAGETRAP_API std::size_t usable_size(const Engine& engine, const void* block) noexcept;
PAGETRAP_API bool owns(const Engine& engine, const void* address) noexcept;
/// Before a system call that reads or writes [from, from + size): reports what it would hit.
PAGETRAP_API void check_buffer(Engine& engine, const void* from, std::size_t size, bool write,
                               const char* call, const void* frame) noexcept;
PAGETRAP_API HeapStatistics statistics(const Engine& engine) noexcept;
/// Descriptors that the heap lives on, which nobody may close: two, -1 where there is none.
PAGETRAP_API void descriptors(const Engine& engine, int (&kept)[2]) noexcept;
inline constexpr std::size_t kUnknownSize = ~std::size_t{0};
}  // namespace engine

}  // namespace guard
}  // namespace v0
}  // namespace pagetrap
