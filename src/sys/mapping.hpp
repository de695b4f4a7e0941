// Mapping: owns a range of address space. Set-up calls; not for the fault path.
#pragma once

#include <cstddef>
#include <cstdint>

#include <pagetrap/core/result.hpp>
#include <pagetrap/core/units.hpp>

namespace pagetrap::sys {

class PAGETRAP_API Mapping {
 public:
  Mapping() noexcept = default;
  explicit Mapping(PageRange range) noexcept : range_(range) {}
  ~Mapping() { reset(); }
  Mapping(Mapping&& other) noexcept : range_(other.release()) {}
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  /// mmap(2) at exactly `address` (EEXIST if something is there) or anywhere aligned to `alignment`
  /// bytes (a power of two; 0: a page).
  struct Request {
    std::size_t size_bytes = 0;
    int prot = 0;
    int flags = 0;
    int descriptor = -1;
    std::uint64_t offset = 0;
    void* address = nullptr;
    std::size_t alignment = 0;
  };
  static Result<Mapping> create(const Request& request);

  [[nodiscard]] PageRange range() const noexcept { return range_; }
  [[nodiscard]] std::byte* data() const noexcept { return range_.base; }
  PageRange release() noexcept;
  void reset() noexcept;

 private:
  PageRange range_;
};

/// Puts a mapping without rights and without page tables in place of what is mapped at `range`.
/// Neighbours of the kind become one. Returns errno; ENOMEM: vm.max_map_count.
PAGETRAP_API int replace_by_nothing(PageRange range) noexcept;

/// Names an anonymous mapping in /proc/PID/maps (PR_SET_VMA_ANON_NAME, 5.17). Best effort by
/// nature: kernels without CONFIG_ANON_VMA_NAME refuse, and nothing depends on it.
PAGETRAP_API void name_mapping(PageRange range, const char* name) noexcept;

}  // namespace pagetrap::sys
