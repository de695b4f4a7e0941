// Tables for every page that a store may ever have: address space, of which only what is used is
// memory.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <span>

#include <pagetrap/core/result.hpp>

#include "sys/mapping.hpp"

namespace pagetrap {
inline namespace v0 {
namespace store {

/// Zeroes, private. Of trivial types only.
template <class T>
class SparseArray {
 public:
  static Result<SparseArray> create(std::size_t count) {
    sys::Mapping::Request request;
    request.size_bytes = bytes(pages_for(count * sizeof(T)));
    request.prot = PROT_READ | PROT_WRITE;
    request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    auto memory = sys::Mapping::create(request);
    if (!memory) return memory.error();
    SparseArray made;
    made.memory_ = std::move(*memory);
    made.count_ = count;
    return made;
  }
  [[nodiscard]] T* data() const noexcept PAGETRAP_SIGNAL_SAFE {
    return reinterpret_cast<T*>(memory_.range().base);
  }
  [[nodiscard]] std::size_t size() const noexcept PAGETRAP_SIGNAL_SAFE { return count_; }
  T& operator[](std::size_t i) const noexcept PAGETRAP_SIGNAL_SAFE { return data()[i]; }
  /// Zeroes again, and no memory.
  void clear() noexcept {
    if (count_ != 0) ::madvise(memory_.data(), memory_.range().size_bytes(), MADV_DONTNEED);
  }

 private:
  sys::Mapping memory_;
  std::size_t count_ = 0;
};

}  // namespace store
}  // namespace v0
}  // namespace pagetrap
