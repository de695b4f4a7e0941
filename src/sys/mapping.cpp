#include "sys/mapping.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>

#include <cerrno>
#include <utility>

#include "sys/injection.hpp"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

namespace pagetrap::sys {
namespace {

Error refused(int number, std::size_t size_bytes) {
  return {"mmap",
          number,
          {nullptr, pages_for(size_bytes)},
          number == ENOMEM ? "address space, RLIMIT_AS, vm.max_map_count or vm.overcommit_memory=2 "
                             "does not allow it"
                           : ""};
}

// Maps more than asked and returns the surplus on both sides.
Result<Mapping> create_aligned(Mapping::Request request) {
  const std::size_t size_bytes = request.size_bytes;
  const std::size_t alignment = request.alignment;
  request.alignment = 0;
  // Reserve first and map inside, so that a file offset stays at the start of the range.
  Mapping::Request reserve{size_bytes + alignment, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE};
  auto reserved = Mapping::create(reserve);
  if (!reserved) return reserved.error();
  const auto start = reinterpret_cast<std::uintptr_t>(reserved->data());
  const std::size_t head = (alignment - (start & (alignment - 1))) & (alignment - 1);
  std::byte* const base = reserved->data() + head;
  void* memory = ::mmap(base, size_bytes, request.prot, request.flags | MAP_FIXED,
                        request.descriptor, static_cast<off_t>(request.offset));
  if (memory == MAP_FAILED) return refused(errno, size_bytes);
  const PageRange whole = reserved->release();
  if (head != 0) ::munmap(whole.base, head);
  std::byte* const end = base + size_bytes;
  if (end != whole.end()) ::munmap(end, static_cast<std::size_t>(whole.end() - end));
  return Mapping(PageRange{base, pages_for(size_bytes)});
}

}  // namespace

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    reset();
    range_ = other.release();
  }
  return *this;
}

PageRange Mapping::release() noexcept { return std::exchange(range_, PageRange{}); }

void Mapping::reset() noexcept {
  const PageRange gone = release();
  // munmap of a mapping of our own can fail only for lack of mappings to split into; the range is
  // whole, so it cannot.
  if (!gone.empty()) ::munmap(gone.base, gone.size_bytes());
}

Result<Mapping> Mapping::create(const Request& request) {
  if (const int error = injected(Call::mmap)) return refused(error, request.size_bytes);
  if (request.alignment > page_size() && request.address == nullptr) return create_aligned(request);
  const int placement = request.address != nullptr ? MAP_FIXED_NOREPLACE : 0;
  void* memory =
      ::mmap(request.address, request.size_bytes, request.prot, request.flags | placement,
             request.descriptor, static_cast<off_t>(request.offset));
  if (memory == MAP_FAILED) return refused(errno, request.size_bytes);
  return Mapping(PageRange{static_cast<std::byte*>(memory), pages_for(request.size_bytes)});
}

int replace_by_nothing(PageRange range) noexcept {
  const int saved = errno;
  void* const nothing = ::mmap(range.base, range.size_bytes(), PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  const int error = nothing == MAP_FAILED ? errno : 0;
  errno = saved;
  return error;
}

void name_mapping(PageRange range, const char* name) noexcept {
  const int saved = errno;
  ::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, range.base, range.size_bytes(), name);
  errno = saved;
}

}  // namespace pagetrap::sys
