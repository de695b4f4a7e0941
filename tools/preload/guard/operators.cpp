// operator new and delete, in all their forms. Ours, and not by way of malloc, so that a block is
// known to be theirs.
#include <dlfcn.h>

#include <cerrno>
#include <new>

#include "common/real.hpp"
#include "guard/heap.hpp"

using namespace pagetrap::preload;
namespace engine = pagetrap::guard::engine;
using pagetrap::guard::Engine;
using pagetrap::guard::Family;

#define PAGETRAP_EXPORT_CXX __attribute__((visibility("default")))

namespace {

// What a failed operator new does (call the new handler, throw) is the program's C++ library's to
// do: only its exceptions are caught by its code.
constinit Real<void*(std::size_t)> next_new("_Znwm");
constinit Real<void*(std::size_t, std::align_val_t)> next_aligned_new("_ZnwmSt11align_val_t");

void* try_new(std::size_t size, std::size_t alignment, Family family, const void* frame) noexcept {
  Engine* const guards = heap();
  if (guards == nullptr || passes_by()) return own::allocate(alignment, size);
  return engine::allocate(*guards, size, alignment, checks_families() ? family : Family::malloc,
                          frame);
}

void* get(std::size_t size, std::size_t alignment, Family family, const void* frame) {
  void* const block = try_new(size, alignment, family, frame);
  if (block != nullptr) return block;
  return alignment > 16 ? next_aligned_new(size, std::align_val_t{alignment}) : next_new(size);
}

std::size_t number(std::align_val_t alignment) noexcept {
  return static_cast<std::size_t>(alignment);
}

void give_back(void* block, std::size_t size, Family family, const void* frame) noexcept {
  if (block == nullptr || is_first_memory(block)) return;
  if (passed_by(block)) return own::release(block);
  Engine* const guards = heap();
  if (guards == nullptr || (sampling && !engine::owns(*guards, block))) {
    own::release(block);
    return;
  }
  const int saved = errno;
  if (checks_families()) {
    engine::release(*guards, block, family, size, frame);
  } else {
    engine::release(*guards, block, Family::malloc, engine::kUnknownSize, frame);
  }
  errno = saved;
}

/// A program that replaces `operator delete(void*)` and not the sized form means the sized form to
/// call it, as the standard says. Null: it replaces none.
using Delete = void (*)(void*);
Delete replaced(const char* name, Delete ours) noexcept {
  const auto found = reinterpret_cast<Delete>(::dlsym(RTLD_DEFAULT, name));
  return found != ours ? found : nullptr;
}

constexpr std::size_t kUnknown = engine::kUnknownSize;

}  // namespace

#define HERE __builtin_frame_address(0)

PAGETRAP_EXPORT_CXX void* operator new(std::size_t size) {
  return get(size, 1, Family::new_single, HERE);
}
PAGETRAP_EXPORT_CXX void* operator new[](std::size_t size) {
  return get(size, 1, Family::new_array, HERE);
}
PAGETRAP_EXPORT_CXX void* operator new(std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
  return try_new(size, 1, Family::new_single, HERE);
}
PAGETRAP_EXPORT_CXX void* operator new[](std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
  return try_new(size, 1, Family::new_array, HERE);
}
PAGETRAP_EXPORT_CXX void* operator new(std::size_t size, std::align_val_t alignment) {
  return get(size, number(alignment), Family::new_single, HERE);
}
PAGETRAP_EXPORT_CXX void* operator new[](std::size_t size, std::align_val_t alignment) {
  return get(size, number(alignment), Family::new_array, HERE);
}
PAGETRAP_EXPORT_CXX void* operator new(std::size_t size, std::align_val_t alignment,
                                       const std::nothrow_t& /*tag*/) noexcept {
  return try_new(size, number(alignment), Family::new_single, HERE);
}
PAGETRAP_EXPORT_CXX void* operator new[](std::size_t size, std::align_val_t alignment,
                                         const std::nothrow_t& /*tag*/) noexcept {
  return try_new(size, number(alignment), Family::new_array, HERE);
}

PAGETRAP_EXPORT_CXX void operator delete(void* block) noexcept {
  give_back(block, kUnknown, Family::new_single, HERE);
}
PAGETRAP_EXPORT_CXX void operator delete[](void* block) noexcept {
  give_back(block, kUnknown, Family::new_array, HERE);
}
PAGETRAP_EXPORT_CXX void operator delete(void* block, const std::nothrow_t& /*tag*/) noexcept {
  give_back(block, kUnknown, Family::new_single, HERE);
}
PAGETRAP_EXPORT_CXX void operator delete[](void* block, const std::nothrow_t& /*tag*/) noexcept {
  give_back(block, kUnknown, Family::new_array, HERE);
}
PAGETRAP_EXPORT_CXX void operator delete(void* block, std::size_t size) noexcept {
  static const Delete theirs = replaced("_ZdlPv", operator delete);
  if (theirs != nullptr) return theirs(block);
  give_back(block, size, Family::new_single, HERE);
}
PAGETRAP_EXPORT_CXX void operator delete[](void* block, std::size_t size) noexcept {
  static const Delete theirs = replaced("_ZdaPv", operator delete[]);
  if (theirs != nullptr) return theirs(block);
  give_back(block, size, Family::new_array, HERE);
}
PAGETRAP_EXPORT_CXX void operator delete(void* block, std::align_val_t /*alignment*/) noexcept {
  give_back(block, kUnknown, Family::new_single, HERE);
}
PAGETRAP_EXPORT_CXX void operator delete[](void* block, std::align_val_t /*alignment*/) noexcept {
  give_back(block, kUnknown, Family::new_array, HERE);
}
PAGETRAP_EXPORT_CXX void operator delete(void* block, std::size_t size,
                                         std::align_val_t /*alignment*/) noexcept {
  give_back(block, size, Family::new_single, HERE);
}
PAGETRAP_EXPORT_CXX void operator delete[](void* block, std::size_t size,
                                           std::align_val_t /*alignment*/) noexcept {
  give_back(block, size, Family::new_array, HERE);
}
PAGETRAP_EXPORT_CXX void operator delete(void* block, std::align_val_t /*alignment*/,
                                         const std::nothrow_t& /*tag*/) noexcept {
  give_back(block, kUnknown, Family::new_single, HERE);
}
PAGETRAP_EXPORT_CXX void operator delete[](void* block, std::align_val_t /*alignment*/,
                                           const std::nothrow_t& /*tag*/) noexcept {
  give_back(block, kUnknown, Family::new_array, HERE);
}
